---------------------------------- MODULE MC ----------------------------------
(* What TLC needs beside the specification: the configuration that models begin with. *)
EXTENDS Invariants

TwoPlusOne == [m |-> [x \in Server |-> IF x \in Fulls THEN "full" ELSE IF x \in Witnesses THEN "witness" ELSE "none"],
               o |-> {}, d |-> {}]
=============================================================================
