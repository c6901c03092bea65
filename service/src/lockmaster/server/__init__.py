"""The server: the engine that hosts one Raft node, and the gRPC front that clients talk to."""
