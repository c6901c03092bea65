"""What the operator sees of one LockCluster at one moment: plain data, filled in by the host."""
