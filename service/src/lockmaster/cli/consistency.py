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


class ConsistencyType(click.ParamType):
    """linearizable, leader-lease, bounded:SECONDS, eventual or eventual:REVISION."""

    name = "consistency"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Consistency:
        """The value of lockmaster.client.consistency that it names."""
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]  # converted before
        name, colon, bound = value.partition(":")
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
            self.fail(f"{value!r}: {error}", param, ctx)
        self.fail(f"{value!r} is none of linearizable, leader-lease, bounded:SECONDS, eventual[:REVISION]", param, ctx)


def consistency_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --consistency; the command gets it as `consistency`."""
    option = click.option(
        "--consistency",
        type=ConsistencyType(),
        default="linearizable",
        show_default=True,
        metavar="HOW",
        help=HELP,
    )
    return option(command)
