"""`lockmaster demo`: what Lockmaster is, shown and checked in under a minute."""

from lockmaster.cli.demo.command import demo

__all__ = ["demo"]
