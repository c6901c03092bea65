"""What the operator decides about every kind but LockCluster: pure plans, one module per kind.

As with LockCluster (plan/), each is a total function of what was declared, what was observed and the time, and gives
steps and a status. None takes a disruptive step on a running cluster. What must be remembered is in the cluster itself
(the rollout's record, the authors of keys) or in status, and is written before what depends on it.
"""
