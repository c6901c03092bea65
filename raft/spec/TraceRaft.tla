------------------------------ MODULE TraceRaft ------------------------------
(***************************************************************************)
(* Is a trace of the simulator a behaviour of Raft.tla? TraceData.tla,     *)
(* which validate.py writes, holds the lines. One step of a node may be    *)
(* several steps of the specification (a term, an append, a commit):       *)
(* TLC looks for steps of that node that lead to the state which the line  *)
(* tells. What traces don't tell (who heard what) TLC finds.               *)
(***************************************************************************)
EXTENDS Raft, TraceData

VARIABLES
  run,   \* which of the traces
  pos,   \* the line that is being explained
  goal,  \* the log that it tells
  safe,  \* safe[i]: term, vote, log of i when all its writes were last durable
  past   \* past[i]: its logs since then; a crash may go back to any

tvars == <<run, pos, goal, safe, past>>
Trace == Traces[run]
Line == Trace[pos]
GoalOf(n) == LET line == Trace[n] IN SubSeq(log[line.n], 1, line.keep) \o line.add

TraceInit ==
  /\ run \in DOMAIN Traces /\ pos = 1 /\ goal = Trace[1].add
  /\ term = [x \in Server |-> IF x = Trace[1].n THEN Trace[1].t ELSE 0]
  /\ log = [x \in Server |-> IF x = Trace[1].n THEN Trace[1].add ELSE <<>>]
  /\ commit = [x \in Server |-> IF x = Trace[1].n THEN Trace[1].commit ELSE 0]
  /\ hist = Trace[1].add
  /\ safe = [x \in Server |-> [t |-> term[x], v |-> Nobody, lg |-> log[x]]]
  /\ past = [x \in Server |-> {log[x]}]
  /\ voted = [x \in Server |-> Nobody] /\ role = [x \in Server |-> "F"] /\ votes = [x \in Server |-> {}]
  /\ base = [x \in Server |-> 0] /\ st = [x \in Server |-> 0] /\ side = [x \in Server |-> 0] /\ lost = {}
  /\ lead = [t \in Terms |-> Nobody] /\ ll = [t \in Terms |-> <<>>] /\ cmt = [t \in Terms |-> 0]
  /\ acked = [t \in Terms |-> [x \in Server |-> 0]] /\ told = [t \in Terms |-> 0]

Reached ==
  LET i == Line.n IN
  /\ term[i] = Line.t /\ voted[i] = Line.v /\ role[i] = Line.role /\ commit[i] = Line.commit /\ log[i] = goal

Advance ==
  LET i == Line.n IN
  /\ pos <= Len(Trace) /\ Reached /\ PrintT(<<"line", run, pos>>)
  /\ safe' = IF Line.synced THEN [safe EXCEPT ![i] = [t |-> term[i], v |-> voted[i], lg |-> log[i]]] ELSE safe
  /\ past' = [past EXCEPT ![i] = IF Line.synced THEN {log[i]} ELSE @ \cup {log[i]}]
  /\ pos' = pos + 1
  /\ goal' = IF pos < Len(Trace) THEN GoalOf(pos + 1) ELSE <<>>
  /\ UNCHANGED <<vars, run>>

(* What was durable is there after a crash: term, vote, and the log up to where all that it has been since agree. *)
Boots(i) ==
  LET core == Min({MatchLen(lg, safe[i].lg) : lg \in past[i]}) IN
  /\ Line.e = "Boot"
  /\ Line.t >= safe[i].t /\ Line.t <= term[i]
  /\ Line.t = safe[i].t => safe[i].v \in {Nobody, Line.v}
  /\ \/ IsPrefix(SubSeq(safe[i].lg, 1, core), goal) /\ \E lg \in past[i] : IsPrefix(goal, lg)
     \/ IsPrefix(goal, hist) /\ Len(goal) = Line.commit   \* a state ahead of the log: the log is written anew from it
  /\ Line.commit <= Len(goal)
  /\ term' = [term EXCEPT ![i] = Line.t] /\ voted' = [voted EXCEPT ![i] = Line.v] /\ role' = [role EXCEPT ![i] = "F"]
  /\ log' = [log EXCEPT ![i] = goal] /\ commit' = [commit EXCEPT ![i] = Line.commit]
  /\ UNCHANGED <<votes, base, st, side, lead, ll, cmt, acked, told, lost, hist>>

Changes(l) ==   \* the change of configuration that the goal asks for, and what must have been heard for it
  LET k == Len(log[l]) + 1
      D == goal[k][3]
      other == {x \in Server : D.m[x] # Cfg(l).m[x]} IN
  \/ /\ goal[k][2] = "C"
     /\ \/ \E x \in other : \/ D.m[x] \in {"learner", "wlearner"} /\ AddAs(l, x, D.m[x])
                            \/ MakeVoter(l, x) \/ MakeLearner(l, x) \/ Remove(l, x) \/ P1(l, x) \/ P4(l, x)
                            \/ AbortPromotion(l, x) \/ D1(l, x) \/ D2(l, x) \/ AbortDemotion(l, x)
                            \/ \E y \in other : EnterJoint(l, x, y)
        \/ LeaveJoint(l)
     /\ log'[l][k] = goal[k]
  \/ goal[k][2] = "G" /\ Gate(l)

(* Steps of node i alone that lead towards the line. *)
Explain(i) ==
  LET t == Line.t
      matches == IF t \in Terms THEN MatchLen(log[i], ll[t]) ELSE 0 IN
  \/ Boots(i)
  \/ /\ Line.e # "Boot"
     /\ \/ term[i] < t /\ LearnTerm(i, t)
        \/ Line.role = "C" /\ term[i] < t /\ Campaign(i)
        \/ Line.v \in Server /\ Line.v # i /\ voted[i] # Line.v /\ (Grant(i, Line.v) \/ LateGrant(i, Line.v, t))
        \/ Line.role = "F" /\ role[i] # "F" /\ term[i] = t /\ StepDown(i)
        \/ Line.role = "L" /\ role[i] = "C" /\ Win(i)
        \/ /\ role[i] # "L" /\ t \in Terms /\ ll[t] # <<>>
           /\ \E n \in {matches, Len(goal)} : \E c \in {0, Line.commit} :
                Deliver(t, i, n, c) /\ (n > matches => log'[i] = goal)
        \/ role[i] = "L" /\ Line.commit > commit[i] /\ Commit(i, Line.commit)
        \/ /\ role[i] = "L" /\ Len(goal) > Len(log[i])
           /\ \/ goal[Len(log[i]) + 1][2] = "D" /\ Propose(i)
              \/ Changes(i)
              \/ \E w, src \in Server : Cfg(i).m[w] = "promoting" /\ Fetch(w, src)

TraceNext ==
  \/ Advance
  \/ /\ pos <= Len(Trace) /\ ~Reached /\ Explain(Line.n) /\ UNCHANGED tvars

TraceSpec == TraceInit /\ [][TraceNext]_<<vars, tvars>>
=============================================================================
