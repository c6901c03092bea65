"""`kubectl lockmaster`: the command line for a LockCluster, reached as kubectl reaches it (operator.md §6)."""
