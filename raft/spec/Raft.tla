-------------------------------- MODULE Raft --------------------------------
(***************************************************************************)
(* Lockmaster's consensus core: election, commit, configuration changes    *)
(* (single and joint), witness, promotion P1-P4, demotion D1-D2.           *)
(* Source: docs/consensus.md; raft.md §2, §4. README.md says what is       *)
(* abstracted. Gates are in Gates.tla.                                     *)
(*                                                                         *)
(* There is no bag of messages. The log of a term's leader only grows, so  *)
(* whatever its AppendEntries may say, however late, is a slice of ll[t];  *)
(* an answer in term t is the number acked[t][x], which only grows too; a  *)
(* leader reads it when it likes: a lost, late, doubled or reordered answer*)
(* is one that it has not read.                                            *)
(***************************************************************************)
EXTENDS Integers, Sequences, FiniteSets, TLC

CONSTANTS
  Fulls,      \* members of the first configuration that hold state
  Witnesses,  \* members of the first configuration that hold the log alone
  Joiners,    \* blank directories that may join; each id is used once (I12)
  Nobody,     \* no member
  Genesis,    \* the configuration in force before any CONFIG entry
  FirstTerm,  \* 1: runs begin with a full member leading term 1, its NOOP known to all
  JoinAs,     \* "learner" or "wlearner": what a joiner becomes
  MaxTerm, MaxLog, MaxData, MaxConfig, MaxLost,
  FullMin,    \* fewest full members that a command may leave (I8): 2
  VotersMin,  \* fewest voters that a command may leave: 3
  Gap,        \* entries a new voter may lack of the leader's commit index
  Fine,       \* TRUE: votes one by one; FALSE: an election is one step
  InFlight,   \* TRUE: a leader's messages arrive after it left office too
  Features,   \* what may happen: a set of strings, see Next
  Mutant      \* "" or the name of a known bug, put in where the name stands

VARIABLES
  term, voted, role, votes, log, commit,
  base,   \* base[i]: entries up to here are not in i's log any more
  st,     \* st[i]: index of the state that i holds on disk, NoState if none
  side,   \* side[i]: epoch (index of P1) of the promotion that st[i] was fetched for, 0 if it was not
  lead, ll, cmt, acked, told,  \* by term: who leads, its log, its commit index, answers, truncation point it has told
  lost,   \* members whose disk is gone for good
  hist    \* ghost: the longest log that was ever called committed

vars == <<term, voted, role, votes, log, commit, base, st, side, lead, ll, cmt, acked, told, lost, hist>>

Server == Fulls \cup Witnesses \cup Joiners
Terms == 1..MaxTerm
NoState == 0 - 1

----------------------------------------------------------------------------
(* Logs and configurations. An entry is <<term, kind>>, kind N(OOP) or D(ATA), *)
(* or <<term, "C", configuration>>. A configuration: m: what each member is;     *)
(* o: the old voters of a joint one; d: ghost, the disks known to be lost   *)
(* when it was appended.                                                    *)

VoterKinds == {"full", "demoting", "witness", "promoting"}
StateKinds == {"full", "demoting"}
WitnessKinds == {"witness", "promoting", "wlearner", "wleaving"}

Max(S) == CHOOSE a \in S : \A b \in S : a >= b
Min(S) == CHOOSE a \in S : \A b \in S : a <= b
Entry(t, k) == <<t, k>>
LastTerm(lg) == IF lg = <<>> THEN 0 ELSE lg[Len(lg)][1]
AtLeast(a, b) == LastTerm(a) > LastTerm(b) \/ (LastTerm(a) = LastTerm(b) /\ Len(a) >= Len(b))
Strictly(a, b) == LastTerm(a) > LastTerm(b) \/ (LastTerm(a) = LastTerm(b) /\ Len(a) > Len(b))
IsPrefix(a, b) == Len(a) <= Len(b) /\ SubSeq(b, 1, Len(a)) = a

RECURSIVE Common(_, _, _)
Common(a, b, n) == IF n < Len(a) /\ n < Len(b) /\ a[n + 1] = b[n + 1] THEN Common(a, b, n + 1) ELSE n
MatchLen(a, b) == Common(a, b, 0)

RECURSIVE ConfigIndex(_, _)
ConfigIndex(lg, n) == IF n = 0 THEN 0 ELSE IF lg[n][2] = "C" THEN n ELSE ConfigIndex(lg, n - 1)
ConfigAt(lg, n) == LET i == ConfigIndex(lg, n) IN IF i = 0 THEN Genesis ELSE lg[i][3]
Config(lg) == ConfigAt(lg, Len(lg))
Count(lg, k) == Cardinality({i \in DOMAIN lg : lg[i][2] = k})

Cfg(x) == Config(log[x])              \* in force when appended (§4.1)
Applied(x) == ConfigAt(log[x], commit[x])
Voters(C) == {x \in Server : C.m[x] \in VoterKinds}
FullVoters(C) == {x \in Server : C.m[x] \in StateKinds \cup {"leaving"}}   \* an outgoing one still counts
SteadyFulls(C) == {x \in Server : C.m[x] = "full"}
WitnessVoters(C) == {x \in Server : C.m[x] \in {"witness", "promoting", "wleaving"}}
Majority(S, V) == 2 * Cardinality(S \cap V) > Cardinality(V)
Quorum(S, C) == Voters(C) # {} /\ Majority(S, Voters(C)) /\ (C.o = {} \/ Majority(S, C.o))
Steady(C) == C.o = {} /\ \A x \in Server : C.m[x] \notin {"promoting", "demoting"}

(* I9: a privilege lost ends when the entry is appended, one gained begins when it is applied. *)
ActsAsWitness(x) ==
  /\ \/ Cfg(x).m[x] \in WitnessKinds
     \/ Applied(x).m[x] \in WitnessKinds /\ Cfg(x).m[x] # "none"
  /\ ~(Mutant = "full_at_p1" /\ Cfg(x).m[x] = "promoting")
Ready(x) == st[x] # NoState /\ st[x] >= base[x]   \* the log goes on where the state ends
IsCaretaker(l) == role[l] = "L" /\ ActsAsWitness(l)
IsOrdinary(l) == role[l] = "L" /\ ~ActsAsWitness(l) /\ Cfg(l).m[l] # "demoting"
Up(x) == x \notin lost

----------------------------------------------------------------------------
Init ==
  /\ \E l \in Fulls :
       LET first == <<Entry(1, "N")>> IN
       /\ term = [x \in Server |-> IF x \in Joiners THEN 0 ELSE FirstTerm]
       /\ role = [x \in Server |-> IF x = l THEN "L" ELSE "F"]
       /\ log = [x \in Server |-> IF x \in Joiners THEN <<>> ELSE first]
       /\ commit = [x \in Server |-> IF x \in Joiners THEN 0 ELSE 1]
       /\ lead = [t \in Terms |-> IF t = 1 THEN l ELSE Nobody]
       /\ ll = [t \in Terms |-> IF t = 1 THEN first ELSE <<>>]
       /\ cmt = [t \in Terms |-> IF t = 1 THEN 1 ELSE 0]
       /\ acked = [t \in Terms |-> [x \in Server |-> IF t = 1 /\ x \notin Joiners THEN 1 ELSE 0]]
       /\ hist = first
       /\ voted = [x \in Server |-> IF Fine /\ x \notin Joiners THEN l ELSE Nobody]
  /\ votes = [x \in Server |-> {}]
  /\ base = [x \in Server |-> 0]
  /\ st = [x \in Server |-> IF Genesis.m[x] \in WitnessKinds \/ (x \in Joiners /\ JoinAs = "wlearner")
                            THEN NoState ELSE 0]
  /\ side = [x \in Server |-> 0]
  /\ told = [t \in Terms |-> 0]
  /\ lost = {}

----------------------------------------------------------------------------
(* Leaving office. Without InFlight a leader's messages end with its office. *)

Gone(S) == {term[x] : x \in {y \in S : role[y] = "L"}}
Forget(S) == IF InFlight THEN UNCHANGED <<lead, ll, cmt, acked, told>> ELSE
  LET g == Gone(S) IN
  /\ lead' = [t \in Terms |-> IF t \in g THEN Nobody ELSE lead[t]]
  /\ ll' = [t \in Terms |-> IF t \in g THEN <<>> ELSE ll[t]]
  /\ cmt' = [t \in Terms |-> IF t \in g THEN 0 ELSE cmt[t]]
  /\ acked' = [t \in Terms |-> IF t \in g THEN [x \in Server |-> 0] ELSE acked[t]]
  /\ told' = [t \in Terms |-> IF t \in g THEN 0 ELSE told[t]]

(* §3.6.1 and I3: a member with state grants a witness its vote only if the witness is strictly newer. *)
Grants(v, c) ==
  IF Mutant = "arbiter" /\ ActsAsWitness(v) THEN TRUE
  ELSE IF ActsAsWitness(c) /\ ~ActsAsWitness(v)
       THEN IF Mutant = "index_only" THEN Len(log[c]) > Len(log[v]) /\ AtLeast(log[c], log[v])
                                     ELSE Strictly(log[c], log[v])
       ELSE AtLeast(log[c], log[v])

MayCampaign(c) == Up(c) /\ (c \in Voters(Cfg(c)) \/ c \in Cfg(c).o)

(* The new leader of term t; S are those that leave an older office with this step. *)
TakeOffice(c, t, S) ==
  LET lg == Append(log[c], Entry(t, "N"))
      g == IF InFlight THEN {} ELSE Gone(S) IN
  /\ log' = [log EXCEPT ![c] = lg]
  /\ lead' = [u \in Terms |-> IF u = t THEN c ELSE IF u \in g THEN Nobody ELSE lead[u]]
  /\ ll' = [u \in Terms |-> IF u = t THEN lg ELSE IF u \in g THEN <<>> ELSE ll[u]]
  /\ cmt' = [u \in Terms |-> IF u = t THEN commit[c] ELSE IF u \in g THEN 0 ELSE cmt[u]]
  /\ acked' = [u \in Terms |-> IF u = t THEN [x \in Server |-> IF x = c THEN Len(lg) ELSE 0]
                               ELSE IF u \in g THEN [x \in Server |-> 0] ELSE acked[u]]
  /\ told' = [u \in Terms |-> IF u = t \/ u \in g THEN 0 ELSE told[u]]

(* Coarse: one step from the campaign to office, with a smallest quorum of votes. *)
Elect(c, Q) ==
  LET t == 1 + Max({term[q] : q \in Q}) IN
  /\ c \in Q /\ (\A q \in Q : Up(q)) /\ MayCampaign(c) /\ Len(log[c]) < MaxLog /\ t <= MaxTerm
  /\ Quorum(Q, Cfg(c)) /\ \A q \in Q \ {c} : ~Quorum(Q \ {q}, Cfg(c))
  /\ \A q \in Q \ {c} : Grants(q, c)
  /\ term' = [x \in Server |-> IF x \in Q THEN t ELSE term[x]]
  /\ role' = [x \in Server |-> IF x = c THEN "L" ELSE IF x \in Q THEN "F" ELSE role[x]]
  /\ TakeOffice(c, t, Q)
  /\ UNCHANGED <<voted, votes, commit, base, st, side, lost, hist>>

(* Fine: campaign, vote, office. *)
Campaign(c) ==
  /\ MayCampaign(c) /\ term[c] < MaxTerm
  /\ term' = [term EXCEPT ![c] = @ + 1] /\ voted' = [voted EXCEPT ![c] = c]
  /\ role' = [role EXCEPT ![c] = "C"] /\ votes' = [votes EXCEPT ![c] = {c}]
  /\ Forget({c})
  /\ UNCHANGED <<log, commit, base, st, side, lost, hist>>

Vote(v, c, t) ==
  /\ v # c /\ Up(v) /\ term[v] <= t /\ (term[v] = t => voted[v] \in {Nobody, c} /\ role[v] # "L")
  /\ term' = [term EXCEPT ![v] = t] /\ voted' = [voted EXCEPT ![v] = c]
  /\ IF term[v] < t
       THEN role' = [role EXCEPT ![v] = "F"] /\ Forget({v})
       ELSE UNCHANGED <<role, lead, ll, cmt, acked, told>>
  /\ UNCHANGED <<log, commit, base, st, side, lost, hist>>

Grant(v, c) ==
  /\ role[c] = "C" /\ Up(c) /\ Grants(v, c)
  /\ Vote(v, c, term[c]) /\ votes' = [votes EXCEPT ![c] = @ \cup {v}]

(* A vote for one that campaigned in term t and does so no longer: it can't matter to anyone but the voter. *)
LateGrant(v, c, t) == ~(role[c] = "C" /\ term[c] = t) /\ term[c] >= t /\ Vote(v, c, t) /\ UNCHANGED votes

Win(c) ==
  /\ role[c] = "C" /\ Up(c) /\ Quorum(votes[c], Cfg(c)) /\ Len(log[c]) < MaxLog
  /\ role' = [role EXCEPT ![c] = "L"] /\ TakeOffice(c, term[c], {})
  /\ UNCHANGED <<term, voted, votes, commit, base, st, side, lost, hist>>

LearnTerm(x, t) ==
  /\ Up(x) /\ term[x] < t /\ \E y \in Server : term[y] >= t
  /\ term' = [term EXCEPT ![x] = t] /\ voted' = [voted EXCEPT ![x] = Nobody] /\ role' = [role EXCEPT ![x] = "F"]
  /\ Forget({x})
  /\ UNCHANGED <<votes, log, commit, base, st, side, lost, hist>>

StepDown(x) ==
  /\ Up(x) /\ role[x] # "F" /\ role' = [role EXCEPT ![x] = "F"] /\ Forget({x})
  /\ UNCHANGED <<term, voted, votes, log, commit, base, st, side, lost, hist>>

----------------------------------------------------------------------------
(* Replication *)

(* What the leader of t has proved equal on every full voter of its committed and its latest configuration (I6). *)
Proved(t, x) == IF Mutant = "follower_report" THEN Len(log[x]) ELSE acked[t][x]
TruncationPoint(t) ==
  LET l == lead[t] IN
  IF Mutant = "commit_truncate" THEN commit[l]
  ELSE Min({commit[l]} \cup {Proved(t, x) : x \in FullVoters(Cfg(l)) \cup FullVoters(Applied(l))})

Knows(L, x) == IF InFlight THEN \E i \in 0..Len(L) : ConfigAt(L, i).m[x] # "none"
               ELSE Config(L).m[x] # "none" \/ x \in Config(L).o

(* x has the leader's log up to n, and its word that all up to c is committed. Where the leader has compacted what x
   lacks: a snapshot; for a witness an anchor, which waits for all full voters (I7). A caretaker sends neither (I4). *)
Deliver(t, x, n, c) ==
  LET L == ll[t]
      l == lead[t]
      p == MatchLen(log[x], L)
      byState == n > p /\ p < base[l]
      asWitness == Config(L).m[x] \in WitnessKinds
      learns == Config(L).m[x] \in {"learner", "wlearner"} /\ Mutant # "eager_learners"
  IN
  /\ L # <<>> /\ x # l /\ Up(x) /\ term[x] <= t /\ ~(role[x] = "L" /\ term[x] = t) /\ Knows(L, x)
  /\ n \in p..Len(L) /\ (n = p => Fine \/ p = Len(L) \/ (learns /\ p >= cmt[t]))
  \* A learner gets committed entries only. Else it may hold what nobody can commit any more, and refuse the one whose
  \* uncommitted configuration makes it a voter: {a, w, j} without b was stuck (see the bug eager_learners).
  /\ learns /\ n > p => n <= cmt[t]
  /\ c <= n /\ c <= cmt[t]
  /\ byState => /\ n >= base[l] /\ ~ActsAsWitness(l)
                /\ asWitness => \A y \in Server :   \* in force or committed, as in TruncationPoint
                     \/ acked[t][y] >= base[l]
                     \/ y \notin FullVoters(Config(L))
                        /\ (y \notin FullVoters(ConfigAt(L, cmt[t])) \/ Mutant = "anchor_latest")
  /\ term' = [term EXCEPT ![x] = t]
  /\ voted' = IF term[x] < t THEN [voted EXCEPT ![x] = Nobody] ELSE voted
  /\ role' = [role EXCEPT ![x] = "F"]
  /\ log' = IF n > p THEN [log EXCEPT ![x] = SubSeq(L, 1, n)] ELSE log
  /\ commit' = [commit EXCEPT ![x] = Max({@, c})]
  /\ base' = IF byState THEN [base EXCEPT ![x] = base[l]] ELSE base
  /\ st' = IF byState THEN [st EXCEPT ![x] = IF asWitness THEN NoState ELSE base[l]] ELSE st
  /\ side' = IF byState THEN [side EXCEPT ![x] = 0] ELSE side
  /\ LET g == IF InFlight THEN {} ELSE Gone({x}) IN
     /\ lead' = [u \in Terms |-> IF u \in g THEN Nobody ELSE lead[u]]
     /\ ll' = [u \in Terms |-> IF u \in g THEN <<>> ELSE ll[u]]
     /\ cmt' = [u \in Terms |-> IF u \in g THEN 0 ELSE cmt[u]]
     /\ acked' = [u \in Terms |-> IF u \in g THEN [y \in Server |-> 0]
                                  ELSE IF u = t THEN [acked[u] EXCEPT ![x] = Max({@, n})] ELSE acked[u]]
     /\ told' = [u \in Terms |-> IF u \in g THEN 0
                                 ELSE IF u = t /\ asWitness /\ "truncate" \in Features
                                      THEN Max({told[u], TruncationPoint(u)}) ELSE told[u]]
  /\ UNCHANGED <<votes, lost, hist>>

AppendOwn(l, e) ==
  LET t == term[l]
      lg == Append(log[l], e) IN
  /\ role[l] = "L" /\ Up(l) /\ Len(log[l]) < MaxLog
  /\ log' = [log EXCEPT ![l] = lg] /\ ll' = [ll EXCEPT ![t] = lg]
  /\ acked' = [acked EXCEPT ![t][l] = Len(lg)]
  /\ UNCHANGED <<term, voted, role, votes, commit, base, st, side, lead, cmt, told, lost, hist>>

Propose(l) ==
  /\ IsOrdinary(l) \/ (Mutant = "caretaker_commits" /\ IsCaretaker(l))
  /\ Count(log[l], "D") < MaxData
  /\ AppendOwn(l, Entry(term[l], "D"))

(* §3.6.2: only an entry of the own term is a commit point. *)
Commit(l, n) ==
  LET t == term[l] IN
  /\ role[l] = "L" /\ Up(l) /\ n > commit[l] /\ n <= Len(log[l])
  /\ log[l][n][1] = t \/ Mutant = "old_term_commit"
  /\ Quorum({x \in Server : acked[t][x] >= n}, Cfg(l))
  /\ commit' = [commit EXCEPT ![l] = n] /\ cmt' = [cmt EXCEPT ![t] = n]
  /\ hist' = IF n > Len(hist) THEN SubSeq(log[l], 1, n) ELSE hist
  /\ UNCHANGED <<term, voted, role, votes, log, base, st, side, lead, ll, acked, told, lost>>

----------------------------------------------------------------------------
(* Configuration changes. All: an entry of the own term committed, no other uncommitted (I10). *)

ChangeOk(l) ==
  /\ role[l] = "L" /\ Up(l) /\ ~ActsAsWitness(l)
  /\ Count(log[l], "C") < MaxConfig
  /\ \/ Mutant = "two_changes"
     \/ /\ commit[l] > 0 /\ log[l][commit[l]][1] = term[l]
        /\ \A i \in commit[l] + 1..Len(log[l]) : log[l][i][2] \notin {"C", "G"}
Change(l, C) == ChangeOk(l) /\ AppendOwn(l, <<term[l], "C", [C EXCEPT !.d = lost]>>)
With(C, x, kind) == [C EXCEPT !.m[x] = kind]

CaughtUp(l, x) == acked[term[l]][x] + Gap >= commit[l] /\ acked[term[l]][x] > 0
(* I6 before x becomes a full voter: no witness may have truncated what x lacks, nor be about to on this leader's own
   earlier word, nor be unheard of in this term. *)
Covered(l, x, C) ==
  \A w \in WitnessVoters(C) \ {x} :
    \/ w \in lost
    \/ /\ acked[term[l]][w] > 0 /\ base[w] <= acked[term[l]][x]
       /\ told[term[l]] <= acked[term[l]][x] \/ Mutant = "reported_first"
Anchored(l, w, C) == \A y \in FullVoters(C) : base[w] <= acked[term[l]][y]   \* I7
Survivable(C, D) ==   \* while a disk is lost: the voters that are left can go on without any newcomer
  lost = {} \/ Quorum(Voters(C) \ lost, D)
Allowed(D) ==
  /\ Cardinality(SteadyFulls(D)) >= FullMin /\ Cardinality(Voters(D)) >= VotersMin
  /\ Majority({x \in Server : D.m[x] \in StateKinds}, Voters(D))

AddAs(l, x, kind) ==
  /\ x \in Joiners /\ Cfg(l).m[x] = "none" /\ Steady(Cfg(l)) /\ IsOrdinary(l)
  /\ \A i \in 0..Len(log[l]) : ConfigAt(log[l], i).m[x] = "none"   \* I12
  /\ Change(l, With(Cfg(l), x, kind))

MakeVoter(l, x) ==
  LET C == Cfg(l)
      D == With(C, x, IF C.m[x] = "wlearner" THEN "witness" ELSE "full") IN
  /\ C.m[x] \in {"learner", "wlearner"} /\ Steady(C) /\ IsOrdinary(l) /\ CaughtUp(l, x) /\ Allowed(D)
  /\ Survivable(C, D) \/ Mutant = "add_then_remove"
  /\ IF C.m[x] = "learner" THEN Covered(l, x, D)
     ELSE Anchored(l, x, D)
  /\ Change(l, D)

Remove(l, x) ==
  LET C == Cfg(l)
      D == With(C, x, "none") IN
  /\ x # l \/ Fine
  /\ C.m[x] # "none" /\ Steady(C) /\ IsOrdinary(l) /\ (x \in Voters(C) => Allowed(D) /\ Survivable(D, D))
  /\ Change(l, D)

(* Quorum shaping (§5): a silent voter becomes a learner, down to the floor. *)
MakeLearner(l, x) ==
  LET D == With(Cfg(l), x, "learner") IN
  /\ x # l /\ Cfg(l).m[x] = "full" /\ Steady(Cfg(l)) /\ IsOrdinary(l) /\ Allowed(D) /\ Survivable(D, D)
  /\ Change(l, D)

(* One joint swap (§4.3): `old` is leaving and the learner `new` votes, both majorities until it is left. *)
EnterJoint(l, old, new) ==
  LET C == Cfg(l)
      full == C.m[old] = "full"
      D == [With(With(C, new, C.m[old]), old, IF full THEN "leaving" ELSE "wleaving") EXCEPT !.o = Voters(C)] IN
  /\ old # l /\ C.m[old] \in {"full", "witness"} /\ C.m[new] = (IF full THEN "learner" ELSE "wlearner")
  /\ Steady(C) /\ IsOrdinary(l) /\ CaughtUp(l, new) /\ Allowed(D) /\ Survivable(C, D)
  /\ IF full THEN Covered(l, new, D) ELSE Anchored(l, new, D)
  /\ Change(l, D)

LeaveJoint(l) ==
  LET C == Cfg(l) IN
  /\ C.o # {} /\ IsOrdinary(l)
  /\ Change(l, [C EXCEPT !.o = {}, !.m = [x \in Server |-> IF @[x] \in {"leaving", "wleaving"} THEN "none" ELSE @[x]]])

(* What a GATE entry means is Gates.tla's; here it only counts as a change that waits its turn. *)
Gate(l) == IsOrdinary(l) /\ ChangeOk(l) /\ AppendOwn(l, Entry(term[l], "G"))

(* Promotion: P1, P2 + P3, P4, abort. *)
P1(l, w) == /\ Cfg(l).m[w] = "witness" /\ Steady(Cfg(l)) /\ IsOrdinary(l)
            /\ Change(l, With(Cfg(l), w, IF Mutant = "learner_first" THEN "learner" ELSE "promoting"))

Fetch(w, src) ==
  LET e == ConfigIndex(log[w], Len(log[w]))
      s == commit[src] IN
  /\ Up(w) /\ Up(src) /\ w # src
  /\ Cfg(w).m[w] = "promoting" /\ commit[w] >= e /\ side[w] # e
  /\ Cfg(src).m[src] = "full" /\ ~ActsAsWitness(src) /\ Ready(src)
  /\ s >= e /\ s <= commit[w]
  /\ s >= base[w]
  /\ st' = [st EXCEPT ![w] = s] /\ side' = [side EXCEPT ![w] = e]
  /\ UNCHANGED <<term, voted, role, votes, log, commit, base, lead, ll, cmt, acked, told, lost, hist>>

P4(l, w) ==
  LET D == With(Cfg(l), w, "full") IN
  /\ Cfg(l).m[w] = "promoting" /\ IsOrdinary(l) /\ w # l
  /\ side[w] = ConfigIndex(log[l], Len(log[l])) \/ Mutant = "p4_unready"
  /\ CaughtUp(l, w) /\ Covered(l, w, D)
  /\ Change(l, D)

AbortPromotion(l, w) == Cfg(l).m[w] = "promoting" /\ IsOrdinary(l) /\ Change(l, With(Cfg(l), w, "witness"))

(* Restoring the shape: D1, D2, abort. A DEMOTING member that leads may only abort. *)
D1(l, x) ==
  LET C == Cfg(l)
      D == With(C, x, "demoting") IN
  /\ x # l /\ C.m[x] = "full" /\ Steady(C) /\ IsOrdinary(l)
  /\ Allowed(With(C, x, "witness"))
  /\ \A y \in SteadyFulls(D) : Up(y) /\ CaughtUp(l, y)
  /\ Change(l, D)

D2(l, x) ==
  LET C == Cfg(l)
      d1 == ConfigIndex(log[l], Len(log[l])) IN
  /\ x # l /\ C.m[x] = "demoting" /\ IsOrdinary(l)
  /\ acked[term[l]][x] >= d1   \* it compacts no more: what it says of its log stays true
  /\ \A y \in SteadyFulls(C) : acked[term[l]][y] >= d1
  /\ \A y \in FullVoters(C) \ {x} : base[x] <= acked[term[l]][y]   \* I6
  /\ Change(l, With(C, x, "witness"))

AbortDemotion(l, x) ==
  /\ role[l] = "L" /\ ~ActsAsWitness(l) /\ Cfg(l).m[x] = "demoting"
  /\ Covered(l, x, With(Cfg(l), x, "full"))
  /\ Change(l, With(Cfg(l), x, "full"))

----------------------------------------------------------------------------
(* Disks *)

Truncate(w) ==   \* a witness, at its leader's word; a caretaker compacts nothing (I4)
  LET t == term[w]
      keep == IF st[w] = NoState \/ Mutant = "truncate_side" THEN commit[w] ELSE st[w]
      to == IF t = 0 THEN 0 ELSE Min({told[t], commit[w], keep}) IN
  /\ Up(w) /\ role[w] # "L" /\ ActsAsWitness(w) /\ to > base[w]
  /\ base' = [base EXCEPT ![w] = to]
  /\ UNCHANGED <<term, voted, role, votes, log, commit, st, side, lead, ll, cmt, acked, told, lost, hist>>

Compact(x) ==   \* a full member: its state makes the log needless
  /\ Up(x) /\ ~ActsAsWitness(x) /\ commit[x] > base[x]
  /\ Cfg(x).m[x] = "full" \/ (Mutant = "full_at_p1" /\ Cfg(x).m[x] = "promoting")
  /\ base' = [base EXCEPT ![x] = commit[x]]
  /\ st' = IF st[x] = NoState THEN st ELSE [st EXCEPT ![x] = commit[x]]
  /\ UNCHANGED <<term, voted, role, votes, log, commit, side, lead, ll, cmt, acked, told, lost, hist>>

DropState(x) ==   \* D2 or an abort is applied
  /\ Up(x) /\ st[x] # NoState
  /\ \/ Applied(x).m[x] = "witness" /\ Cfg(x).m[x] = "witness"
     \/ Mutant = "d1_deletes" /\ Applied(x).m[x] = "demoting"
  /\ st' = [st EXCEPT ![x] = NoState] /\ side' = [side EXCEPT ![x] = 0]
  /\ UNCHANGED <<term, voted, role, votes, log, commit, base, lead, ll, cmt, acked, told, lost, hist>>

Lose(x) ==
  /\ Up(x) /\ Cardinality(lost) < MaxLost /\ x \in Voters(Config(hist))
  /\ lost' = lost \cup {x} /\ role' = [role EXCEPT ![x] = "F"] /\ Forget({x})
  /\ UNCHANGED <<term, voted, votes, log, commit, base, st, side, hist>>

Restart(x) ==
  /\ Up(x) /\ (role[x] # "F" \/ commit[x] > Max({base[x], 0} \cup (IF st[x] = NoState THEN {} ELSE {st[x]})))
  /\ role' = [role EXCEPT ![x] = "F"] /\ Forget({x})
  /\ commit' = [commit EXCEPT ![x] = Max({base[x], 0} \cup (IF st[x] = NoState THEN {} ELSE {st[x]}))]
  /\ UNCHANGED <<term, voted, votes, log, base, st, side, lost, hist>>

----------------------------------------------------------------------------
Elections ==
  IF Fine THEN \/ \E c \in Server : Campaign(c) \/ Win(c)
               \/ \E v, c \in Server : Grant(v, c)
  ELSE \E c \in Server : \E Q \in SUBSET (Voters(Cfg(c)) \cup Cfg(c).o) : Elect(c, Q)

Replication ==
  \/ \E t \in Terms : ll[t] # <<>> /\ \E x \in Server : \E n \in 0..Len(ll[t]) : Deliver(t, x, n, Min({n, cmt[t]}))
  \/ \E l \in Server : role[l] = "L" /\ (Propose(l) \/ \E n \in 1..Len(log[l]) : Commit(l, n))

Membership ==
  \E l \in Server : ChangeOk(l) /\
    \/ "join" \in Features /\ \E x \in Joiners : AddAs(l, x, JoinAs)
    \/ "single" \in Features /\ \E x \in Server : MakeVoter(l, x) \/ Remove(l, x)
    \/ "shape" \in Features /\ \E x \in Server : MakeLearner(l, x)
    \/ "gate" \in Features /\ Count(log[l], "G") = 0 /\ Gate(l)
    \/ "joint" \in Features /\ (LeaveJoint(l) \/ \E x, y \in Server : EnterJoint(l, x, y))
    \/ "promote" \in Features /\ \E w \in Server : P1(l, w) \/ P4(l, w) \/ AbortPromotion(l, w)
    \/ "demote" \in Features /\ \E x \in Server : D1(l, x) \/ D2(l, x) \/ AbortDemotion(l, x)

Disks ==
  \E x \in Server :
    \/ "promote" \in Features /\ \E y \in Server : Fetch(x, y)
    \/ "truncate" \in Features /\ Truncate(x)
    \/ "compact" \in Features /\ Compact(x)
    \/ DropState(x)
    \/ Lose(x)
    \/ "restart" \in Features /\ Restart(x)

Next == Elections \/ Replication \/ Membership \/ Disks
Spec == Init /\ [][Next]_vars

Symmetry == Permutations(Fulls)
=============================================================================
