"""`gate`: which level is active, who knows what, and the four operations on a level (docs/operations.md)."""

from __future__ import annotations

import asyncio
from typing import Final

import click

from lockmaster.api import admin_pb2
from lockmaster.cli.cluster import list_members
from lockmaster.cli.connection import Target, connection_options
from lockmaster.cli.numbers import LEVEL_LIMIT, POSITION
from lockmaster.cli.output import Row, output_option, print_json, print_rows, stdout
from lockmaster.cli.repeating import idempotency_key_option

COLUMNS = {"member_id": "ID", "name": "NAME", "levels": "KNOWS LEVELS", "promised": "PROMISED"}


@click.group()
def gate() -> None:
    """Levels: features that need every member, switched on and off for the whole cluster.

    Upgrade every member, then `fence`, then `activate`. Until `activate`, `cancel` takes the fence back.
    """


@gate.command("status")
@output_option
@connection_options
def status_command(target: Target, output: str) -> None:
    """Show the active level, a fence that stands, and what each member knows and has promised."""
    listed = list_members(target)
    rows: list[Row] = [
        {
            "member_id": member.member_id,
            "name": member.name,
            "level_min": member.level_min,
            "level_max": member.level_max,
            "levels": f"{member.level_min} to {member.level_max}" if member.level_max else "not reported",
            "fence_index": member.fence_index,
            "promised": _promised(member, listed),
        }
        for member in listed.members
    ]
    state = _state(listed.level_active, listed.level_fence, listed.gate_epoch)
    if output == "json":
        print_json({**state, "members": rows})
        return
    stdout.print(_told(state))
    print_rows(rows, COLUMNS, output, empty="the cluster has no members")


def _promised(member: admin_pb2.MemberInfo, listed: admin_pb2.ListMembersResponse) -> str:
    if listed.level_fence == listed.level_active:
        return ""
    return f"level {listed.level_fence}" if member.fence_index == listed.gate_epoch else "not yet"


def _state(active: int, fence: int, epoch: int) -> dict[str, int]:
    return {"level_active": active, "level_fence": fence, "epoch": epoch}


def _told(state: dict[str, int]) -> str:
    active, fence = state["level_active"], state["level_fence"]
    standing = f"; a fence for level {fence} stands" if fence > active else ""
    return f"level {active} is active{standing} (epoch {state['epoch']})"


def _changing(name: str, operation: admin_pb2.GateOperation, text: str) -> None:
    """Adds the command `name LEVEL`."""

    @gate.command(name, help=text)
    @click.argument("level", type=click.IntRange(2, LEVEL_LIMIT))
    @click.option(
        "--expected-epoch",
        type=POSITION,
        help="Refuse if `gate status` would say another epoch.",
    )
    @idempotency_key_option
    @output_option
    @connection_options
    def command(target: Target, output: str, level: int, expected_epoch: int | None, idempotency_key: str) -> None:
        async def change() -> admin_pb2.ChangeGateResponse:
            async with target.client(label="gate") as client:
                return await client.admin.change_gate(
                    operation, level, expected_epoch=expected_epoch, idempotency_key=idempotency_key
                )

        answer = asyncio.run(change())
        state = _state(answer.level_active, answer.level_fence, answer.gate_epoch)
        if output == "json":
            print_json(state)
        else:
            stdout.print(_told(state))


_COMMANDS: Final[tuple[tuple[str, admin_pb2.GateOperation, str], ...]] = (
    (
        "fence",
        admin_pb2.GATE_OPERATION_FENCE,
        """Announce LEVEL: from now on nobody joins whose binary doesn't know it.

        Refused (exit code 4), naming the members, unless every member, the down ones too, runs a binary that knows it.
        """,
    ),
    (
        "activate",
        admin_pb2.GATE_OPERATION_ACTIVATE,
        """Make LEVEL's features legal. There is no way back to an older binary then, except by `deactivate`.

        Refused (exit code 4), naming the members, until every one has promised the fence on its disk.
        """,
    ),
    (
        "cancel",
        admin_pb2.GATE_OPERATION_CANCEL,
        """Take the fence for LEVEL back. Members may then run older binaries again. Legal until `activate`.""",
    ),
    (
        "deactivate",
        admin_pb2.GATE_OPERATION_DEACTIVATE,
        """Go back to the level below LEVEL. Refused (exit code 4) while anything of LEVEL is in use.""",
    ),
)
for _command in _COMMANDS:
    _changing(*_command)
