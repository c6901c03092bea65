"""What the consensus core costs and gains, against itself: the other half of `make bench` (docs/benchmarks.md)."""
