"""The consensus core of Lockmaster: Raft as a pure state machine. No I/O, no clock, no randomness."""
