"""What a LockCluster is made of in Kubernetes: spec in, objects out. Pure."""
