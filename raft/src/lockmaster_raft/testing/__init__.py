"""The deterministic simulator: whole clusters in virtual time from one seed: `python -m lockmaster_raft.testing`."""
