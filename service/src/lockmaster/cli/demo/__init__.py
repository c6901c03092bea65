"""`lockmaster demo`: what Lockmaster is, shown and checked in about a minute."""

from lockmaster.cli.demo.command import demo

__all__ = ["demo"]
