"""`--consistency`: how fresh what a command reads must be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from lockmaster.client.consistency import Bounded, Consistency, Eventual, LeaderLease, Linearizable

HELP = (
    "linearizable: sees every write acknowledged before. leader-lease: the same while clocks keep to their drift "
    "bound, without a round at the leader. bounded:SECONDS: no older than that. eventual, eventual:REVISION: what the "
    "member has, at least that revision."
)


def consistency_of(text: str) -> Consistency:
    """What linearizable, leader-lease, bounded:SECONDS, eventual or eventual:REVISION names; else BadParameter."""
    name, colon, bound = text.partition(":")
    try:
        match name, bool(colon):
            case "linearizable", False:
                return Linearizable()
            case "leader-lease", False:
                return LeaderLease()
            case "eventual", False:
                return Eventual()
            case "eventual", True:
                return Eventual(int(bound))
            case "bounded", True:
                return Bounded(float(bound))
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}") from None
    raise click.BadParameter(f"{text!r} is none of linearizable, leader-lease, bounded:SECONDS, eventual[:REVISION]")


def consistency_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --consistency; the command gets it as `consistency`."""
    option = click.option(
        "--consistency",
        type=consistency_of,
        default="linearizable",
        show_default=True,
        metavar="HOW",
        help=HELP,
    )
    return option(command)
