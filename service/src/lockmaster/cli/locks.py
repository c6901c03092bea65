"""`lock`: who holds what, and holding one by hand."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click

from lockmaster import AsyncClient, LockLost
from lockmaster.cli.connection import Target, connection_options
from lockmaster.cli.consistency import consistency_option
from lockmaster.cli.exit_codes import LOCK_LOST, OK, USAGE
from lockmaster.cli.numbers import DAY_SECONDS, POSITION, Seconds
from lockmaster.cli.output import (
    Row,
    complain,
    duration,
    output_option,
    print_json,
    print_json_line,
    print_rows,
    stdout,
)
from lockmaster.cli.refusals import Refused
from lockmaster.cli.run import granted, until_lost
from lockmaster.client.consistency import Consistency
from lockmaster.client.locks import LockStatus, QueuedWaiter

T = TypeVar("T")
COLUMNS = {"name": "LOCK", "holder": "HOLDER", "token": "TOKEN", "held": "FOR", "waiting": "WAITING"}
QUEUE_COLUMNS = {"position": "#", "label": "LABEL", "session_id": "SESSION", "waited": "WAITED"}


@click.group()
def lock() -> None:
    """Hold, look at and force-release locks."""


@lock.command("acquire")
@click.argument("name")
@click.option("--timeout", type=Seconds(0, DAY_SECONDS), help="Longest wait in seconds; 0: don't wait at all.")
@click.option("--ttl", type=Seconds(1, DAY_SECONDS), default=15.0, show_default=True, help="Session TTL in seconds.")
@output_option
@connection_options
def acquire_command(target: Target, output: str, name: str, timeout: float | None, ttl: float) -> int:
    """Take a lock and hold it until Ctrl-C; prints its fencing token.

    Exit code 124 if it is not granted in time, 125 if it is lost, 130 after Ctrl-C, 143 after SIGTERM.
    """
    return asyncio.run(hold_until_told(target, output, name, timeout, ttl))


async def hold_until_told(target: Target, output: str, name: str, timeout: float | None, ttl: float) -> int:
    """Holds the lock until it is lost or SIGTERM comes, which gives it back as Ctrl-C does."""
    loop = asyncio.get_running_loop()
    holding = loop.create_task(hold(target, output, name, timeout, ttl))
    told: list[signal.Signals] = []

    def end() -> None:
        told.append(signal.SIGTERM)
        holding.cancel()

    with contextlib.suppress(NotImplementedError):  # no such signal handlers on Windows
        loop.add_signal_handler(signal.SIGTERM, end)
    try:
        return await holding
    except asyncio.CancelledError:
        if not told:
            raise
        return 128 + signal.SIGTERM


async def hold(target: Target, output: str, name: str, timeout: float | None, ttl: float) -> int:
    """Holds the lock until it is lost; cancellation gives it back."""
    async with target.client(ttl=ttl, label="lock acquire") as client:
        held = await granted(client, name, timeout)
        try:
            if output == "json":
                print_json_line({"name": name, "token": held.fencing_token})
            else:
                stdout.print(
                    f"holding [bold]{name}[/] with fencing token [bold]{held.fencing_token}[/]; Ctrl-C releases"
                )
            await until_lost(held)
        finally:
            with contextlib.suppress(LockLost):
                await held.release()
    complain(f"lock {name!r} is lost")
    return LOCK_LOST


@lock.command("inspect")
@click.argument("name")
@consistency_option
@output_option
@connection_options
def inspect_command(target: Target, output: str, name: str, consistency: Consistency) -> None:
    """Show who holds a lock, since when, with which token, and who waits."""

    async def ask(client: AsyncClient) -> LockStatus:
        return await client.locks.inspect(name, consistency=consistency)

    found = with_client(target, ask)
    row = {**row_of(found), "queue": [waiter_row(waiter) for waiter in found.queue]}
    if output == "json":
        print_json(row)
        return
    shown = row if found.holder else {**row, "holder": "nobody", "token": ""}
    print_rows([shown], COLUMNS, output, empty="")
    if row["queue"]:
        print_rows(row["queue"], QUEUE_COLUMNS, output, empty="")


@lock.command("list")
@click.argument("prefix", default="")
@consistency_option
@output_option
@connection_options
def list_command(target: Target, output: str, prefix: str, consistency: Consistency) -> None:
    """List the locks that are held or waited for, with names that start with PREFIX."""

    async def ask(client: AsyncClient) -> list[Row]:
        return [row_of(found) for found in await client.locks.list(prefix, consistency=consistency)]

    print_rows(with_client(target, ask), COLUMNS, output, empty="no locks are held")


@lock.command("force-release")
@click.argument("name")
@click.option("--reason", required=True, help="Kept with the event; the holder is told.")
@click.option("--token-max", type=POSITION, default=0, help="Only if the holder's token is at most this.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@output_option
@connection_options
def force_release_command(target: Target, output: str, name: str, reason: str, token_max: int, yes: bool) -> int:
    """Take a lock from its holder. The next holder's token is higher; the old one must be fenced off by it."""
    if not yes:
        if not sys.stdin.isatty():
            raise Refused("force-release takes a lock from its holder: give --yes to confirm", USAGE)
        click.confirm(
            f"Take {name!r} from its holder? Whatever it does under the lock goes on unprotected.", abort=True
        )

    async def ask(client: AsyncClient) -> int:
        return await client.locks.force_release(name, reason, token_max)

    token = with_client(target, ask)
    if output == "json":
        print_json({"released": bool(token), "token": token})
    else:
        stdout.print(f"released; its token was {token}" if token else "nobody held it")
    return OK


def with_client(target: Target, ask: Callable[[AsyncClient], Awaitable[T]]) -> T:
    """Opens a client, asks, closes it."""

    async def main() -> T:
        async with target.client() as client:
            return await ask(client)

    return asyncio.run(main())


def row_of(found: LockStatus) -> dict[str, Any]:
    """One lock as a row."""
    holder = found.holder
    return {
        "name": found.name,
        "holder": (holder.label or str(holder.session_id)) if holder else "",
        "session_id": holder.session_id if holder else 0,
        "token": holder.token if holder else 0,
        "held": duration(round(holder.since * 1000)) if holder else "",
        "held_seconds": holder.since if holder else 0.0,
        "waiting": found.queue_length,
        "last_token": found.last_token,
    }


def waiter_row(waiter: QueuedWaiter) -> dict[str, Any]:
    """One waiter as a row."""
    return {
        "position": waiter.position,
        "label": waiter.label,
        "session_id": waiter.session_id,
        "waited": duration(round(waiter.waited * 1000)),
        "waited_seconds": waiter.waited,
    }
