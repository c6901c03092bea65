"""`lockmaster bench`: how fast this cluster is, from here."""

from lockmaster.cli.bench.command import bench

__all__ = ["bench"]
