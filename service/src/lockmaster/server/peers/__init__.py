"""How members talk to each other: frames, handshakes and connections (service.md §6)."""
