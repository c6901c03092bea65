---------------------------------- MODULE MC ----------------------------------
(* What TLC needs beside the specification: the first configurations that models begin with. *)
EXTENDS Invariants

TwoPlusOne == [m |-> [x \in Server |-> IF x \in Fulls THEN "full" ELSE IF x \in Witnesses THEN "witness" ELSE "none"],
               o |-> {}, d |-> {}]
AllFull == [m |-> [x \in Server |-> IF x \in Fulls \cup Witnesses THEN "full" ELSE "none"], o |-> {}, d |-> {}]
=============================================================================
