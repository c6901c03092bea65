-------------------------------- MODULE Gates --------------------------------
(***************************************************************************)
(* The level gate (raft.md §6): FENCE, reports, CANCEL, ACTIVATE, binaries *)
(* that are rolled forward and back, joins, leader changes.                *)
(*                                                                         *)
(* Replication is abstracted to one log whose uncommitted tail a new       *)
(* leader may or may not have (Raft.tla shows that it is one log). Level 1 *)
(* is the old binary's, level 2 the new one's. A binary is what max_level  *)
(* says; FORMAT's min_binary_level and the fence are the guard file.       *)
(***************************************************************************)
EXTENDS Naturals, Sequences, FiniteSets, TLC

CONSTANTS
  First,     \* the first members
  Joiners,   \* may join
  MaxLog, MaxBoots, MaxLeaders,
  Mutant

VARIABLES
  gates,     \* the log: entries <<op, index of the FENCE it names or the joiner>>
  committed, \* how many are
  bin,       \* bin[m]: level of the binary that m runs
  up,        \* up[m]: runs
  boot,      \* boot[m]: how often it was started
  applied,   \* applied[m]: how far m has applied
  guard,     \* guard[m]: min_binary_level in m's guard file
  sent,      \* reports under way or arrived: <<member, FENCE's index>>; none is ever lost for good
  max,       \* max[m]: max_level that the present leader has heard of m in this term, 0: nothing yet
  leaders    \* how many leaders there were

vars == <<gates, committed, bin, up, boot, applied, guard, sent, max, leaders>>
Member == First \cup Joiners
Old == 1
New == 2

Joined(n) == First \cup {gates[i][2] : i \in {k \in 1..n : gates[k][1] = "JOIN"}}
Members == Joined(Len(gates))

RECURSIVE FenceAt(_)
(* Index of the FENCE in force at n, 0 without one. *)
FenceAt(n) == IF n = 0 THEN 0
              ELSE IF gates[n][1] = "FENCE" THEN n
              ELSE IF gates[n][1] \in {"CANCEL", "ACTIVATE"} THEN 0 ELSE FenceAt(n - 1)
Active(n) == \E i \in 1..n : gates[i][1] = "ACTIVATE"
Now == Len(gates)
Guarded(n) == FenceAt(n) # 0 \/ Active(n)

Init ==
  /\ gates = <<>> /\ committed = 0 /\ leaders = 1 /\ sent = {}
  /\ bin \in [Member -> {Old, New}]
  /\ up = [m \in Member |-> TRUE] /\ boot = [m \in Member |-> 1] /\ applied = [m \in Member |-> 0]
  /\ guard = [m \in Member |-> Old] /\ max = [m \in Member |-> 0]

Append1(e) == Len(gates) < MaxLog /\ gates' = Append(gates, e)
                /\ UNCHANGED <<committed, bin, up, boot, applied, guard, sent, max, leaders>>
(* I10: a GATE or CONFIG entry only while no other is uncommitted. *)
Free == committed = Now \/ Mutant = "two_gates"

Hear(m) == /\ up[m] /\ m \in Members /\ max[m] # bin[m] /\ max' = [max EXCEPT ![m] = bin[m]]
           /\ UNCHANGED <<gates, committed, bin, up, boot, applied, guard, sent, leaders>>
Fence == /\ Free /\ FenceAt(Now) = 0 /\ ~Active(Now)
         /\ \A m \in Members : max[m] >= New
         /\ Append1(<<"FENCE", 0>>)
Cancel == Free /\ FenceAt(Now) # 0 /\ Append1(<<"CANCEL", FenceAt(Now)>>)
(* A report counts if it names this very FENCE; by its boot nonce the leader asks a restarted member again, which
   costs nothing here and is therefore left out. *)
Counts(m, f) == \E r \in sent : r[1] = m /\ (r[2] = f \/ Mutant = "report_of_any_fence")
Activate == LET f == FenceAt(Now) IN
  /\ Free /\ f # 0 /\ \A m \in Members : Counts(m, f) \/ (Mutant = "activate_skips_down" /\ ~up[m])
  /\ Append1(<<"ACTIVATE", f>>)
Join(m) == /\ Free /\ m \in Joiners \ Members
           /\ Guarded(Now) /\ Mutant # "join_below_fence" => bin[m] >= New
           /\ Len(gates) < MaxLog /\ gates' = Append(gates, <<"JOIN", m>>)
           \* Its guard file is made with the level in force: else it might be rolled back before it has applied any.
           /\ guard' = IF Guarded(Now) /\ bin[m] >= New THEN [guard EXCEPT ![m] = New] ELSE guard
           /\ UNCHANGED <<committed, bin, up, boot, applied, sent, max, leaders>>
CommitNext == /\ committed < Now /\ committed' = committed + 1
              /\ UNCHANGED <<gates, bin, up, boot, applied, guard, sent, max, leaders>>
NewLeader == /\ leaders < MaxLeaders /\ leaders' = leaders + 1
             /\ \E n \in committed..Now : gates' = SubSeq(gates, 1, n)
             /\ max' = [m \in Member |-> 0]
             /\ UNCHANGED <<committed, bin, up, boot, applied, guard, sent>>

(* A member applies the next entry: FENCE writes the guard file and reports; CANCEL lowers it; JOIN is a member's start. *)
Apply(m) ==
  LET i == applied[m] + 1 IN
  /\ up[m] /\ m \in Joined(committed) /\ i <= committed
  /\ bin[m] >= New \/ gates[i][1] = "JOIN"   \* the old binary stops at a kind that it doesn't know
  /\ applied' = [applied EXCEPT ![m] = i]
  /\ CASE gates[i][1] = "FENCE" -> guard' = [guard EXCEPT ![m] = New] /\ sent' = sent \cup {<<m, i>>}
       [] gates[i][1] = "CANCEL" -> guard' = [guard EXCEPT ![m] = Old] /\ UNCHANGED sent
       [] OTHER -> UNCHANGED <<guard, sent>>
  /\ UNCHANGED <<gates, committed, bin, up, boot, max, leaders>>
Stop(m) == /\ up[m] /\ up' = [up EXCEPT ![m] = FALSE]
           /\ UNCHANGED <<gates, committed, bin, boot, applied, guard, sent, max, leaders>>
(* With either binary; one below the guard file's level refuses to start. *)
Start(m) ==
  /\ ~up[m] /\ boot[m] < MaxBoots
  /\ \E level \in {Old, New} :
       /\ level >= guard[m] \/ Mutant = "starts_below_guard"
       /\ bin' = [bin EXCEPT ![m] = level]   \* the leader may believe the older level for a while
  /\ up' = [up EXCEPT ![m] = TRUE] /\ boot' = [boot EXCEPT ![m] = @ + 1]
  /\ UNCHANGED <<gates, committed, applied, guard, sent, max, leaders>>

Next ==
  \/ Fence \/ Cancel \/ Activate \/ CommitNext \/ NewLeader
  \/ \E m \in Member : Hear(m) \/ Join(m) \/ Apply(m) \/ Stop(m) \/ Start(m)
Symmetry == Permutations(First)
Spec == Init /\ [][Next]_vars

(* Whoever applies an entry under level 2, or is about to, runs a binary that knows it. *)
ActiveIsKnown == \A m \in Joined(committed) : Active(committed) /\ up[m] => bin[m] >= New
(* No member's guard file lets the old binary start once level 2 is active. *)
NoWayBack == \A m \in First : Active(committed) => guard[m] >= New
(* CANCEL gives the binary rollback back: whoever applied it may start the old one. *)
RollbackIsFree == \A m \in First : FenceAt(applied[m]) = 0 /\ ~Active(applied[m]) => guard[m] = Old
I10_OneChange == Now - committed <= 1
=============================================================================
