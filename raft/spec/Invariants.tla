------------------------------ MODULE Invariants ------------------------------
(* raft.md §4, I1-I13, as predicates on the states of Raft.tla; and that an acknowledged entry outlives a lost disk, *)
(* and that no group is stuck.                                                                                       *)
EXTENDS Raft

Leaders == {l \in Server : role[l] = "L" /\ Up(l)}
Newest == {l \in Leaders : term[l] >= LastTerm(hist) /\ \A k \in Leaders : term[k] <= term[l]}
InForce == {Config(hist)} \cup {Cfg(l) : l \in Newest}   \* the committed configuration and the pending one

TypeOK ==
  /\ \A x \in Server : commit[x] <= Len(log[x]) /\ base[x] <= commit[x] /\ role[x] \in {"F", "C", "L"}
  /\ \A l \in Leaders : ll[term[l]] = log[l] /\ lead[term[l]] = l

I1_ElectionSafety == \A k, l \in Leaders : term[k] = term[l] => k = l
I1_LogMatching ==
  \A x, y \in Server : \A i \in DOMAIN log[x] \cap DOMAIN log[y] :
    log[x][i][1] = log[y][i][1] => SubSeq(log[x], 1, i) = SubSeq(log[y], 1, i)
I1_LeaderCompleteness == \A l \in Newest : IsPrefix(hist, log[l])
I1_StateMachineSafety == \A x \in Server : IsPrefix(SubSeq(log[x], 1, commit[x]), hist)

(* A witness won office only over members that it was newer than. *)
I3_StrictlyNewer ==
  \A l \in Leaders : IsCaretaker(l) /\ log[l][Len(log[l])][1] = term[l] =>
    \E x \in Server : x # l /\ term[x] >= term[l]
I4_Caretaker ==
  \A l \in Leaders : IsCaretaker(l) => \A i \in DOMAIN log[l] : log[l][i][1] = term[l] => log[l][i][2] = "N"

HoldsPayload(x, n) ==
  /\ n <= Len(log[x]) /\ n <= Len(hist) /\ log[x][n] = hist[n]
  /\ ~(Mutant = "metadata_witness" /\ ActsAsWitness(x) /\ hist[n][2] = "D")
(* Truncated below a witness's base only when every full voter has it, so it counts as held. *)
I5_Copies == \A n \in DOMAIN hist : Cardinality({x \in Server : HoldsPayload(x, n)}) >= FullMin

I6_Coverage ==
  \A C \in InForce : \A w \in WitnessVoters(C) : Up(w) =>
    \A x \in FullVoters(C) \ {w} : base[w] <= MatchLen(log[x], hist)

I8_TwoFull ==
  \A C \in InForce : Cardinality(SteadyFulls(C)) >= FullMin
I8_FullIsReady == \A x \in SteadyFulls(Config(hist)) : Up(x) => Ready(x)
FullMajority == \A C \in InForce : Majority({x \in Server : C.m[x] \in StateKinds}, Voters(C))

I10_OneChange ==
  \A x \in Server :
    Cardinality({i \in DOMAIN log[x] : i > MatchLen(log[x], hist) /\ log[x][i][2] = "C"}) <= 1

(* No two majorities of V and U are disjoint. *)
Meet(V, U) ==
  LET q(S) == (Cardinality(S) \div 2) + 1
      need(S, T) == IF q(S) > Cardinality(S \ T) THEN q(S) - Cardinality(S \ T) ELSE 0 IN
  V # {} /\ U # {} /\ need(V, U) + need(U, V) > Cardinality(V \cap U)
QuorumsMeet(C, D) ==
  \E V \in {Voters(C)} \cup (IF C.o = {} THEN {} ELSE {C.o}) :
    \E U \in {Voters(D)} \cup (IF D.o = {} THEN {} ELSE {D.o}) : Meet(V, U)
I11_QuorumsMeet ==
  \A l \in Newest : LET i == ConfigIndex(log[l], Len(log[l])) IN
    i > 0 => QuorumsMeet(ConfigAt(log[l], i - 1), log[l][i][3])

I12_NoReturn == \A x \in lost : role[x] = "F"

(* Every acknowledged entry can be had back: someone has the whole committed log, and its own state goes on there, or
   the state of someone whose log reaches the place where the other begins. *)
Whole(x) == IsPrefix(hist, log[x]) /\ \A n \in DOMAIN hist : n > base[x] => HoldsPayload(x, n)
NothingLost ==
  \E j \in Server : Up(j) /\ Whole(j) /\
    \/ Ready(j)
    \/ \E i \in Server : Up(i) /\ i # j /\ Ready(i) /\ base[j] <= MatchLen(log[i], hist)

(* The members in S alone can get a leader that serves. *)
CanWin(c, S) == MayCampaign(c) /\ Quorum({c} \cup {v \in S : v # c /\ Grants(v, c)}, Cfg(c))
CanServe(S) ==
  \E c \in S : CanWin(c, S) /\
    IF Cfg(c).m[c] \in StateKinds \cup {"leaving"} /\ ~(Applied(c).m[c] \in WitnessKinds /\ ~Ready(c)) THEN Ready(c)
    ELSE /\ Mutant # "metadata_witness"
         /\ \E f \in S : Cfg(c).m[f] \in StateKinds /\ Ready(f) /\ base[c] <= MatchLen(log[f], log[c])
(* The promise: whoever is left of the committed voters after one of them is gone can go on; nobody waits for a newcomer
   while a disk is lost, if the leader knew of that when it made the newcomer a voter. *)
Promised(S) ==
  LET now == Config(hist)
      enough(C) == Cardinality(Voters(C) \ S) <= 1 /\ Cardinality(C.o \ S) <= 1
      sane(C) == C.d = lost /\ lost # {} /\ Voters(now) \ lost \subseteq S IN
  /\ S \cap lost = {} /\ enough(now)
  /\ \A x \in S : enough(Cfg(x)) \/ sane(Cfg(x))
NoStuckGroup == \A S \in SUBSET Server : Promised(S) => CanServe(S)
=============================================================================
