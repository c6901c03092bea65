"""`run`: a command under a lock, stopped when the lock is lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import click

from lockmaster import AsyncClient, Held
from lockmaster.cli.child import start_failure, supervise
from lockmaster.cli.connection import Target, connection_options
from lockmaster.cli.exit_codes import LOCK_LOST
from lockmaster.cli.numbers import DAY_SECONDS, Seconds
from lockmaster.cli.output import complain
from lockmaster.errors import LockmasterError

TOKEN_VARIABLE = "LOCKMASTER_FENCING_TOKEN"
NAME_VARIABLE = "LOCKMASTER_LOCK"
LOOK_SECONDS_MAX = 1.0
LOOK_SECONDS_MIN = 0.01


@click.command(context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False})
@click.option("--lock", "name", required=True, metavar="NAME", help="The lock to hold while the command runs.")
@click.option(
    "--timeout", type=Seconds(0, DAY_SECONDS), help="Longest wait for the lock in seconds; 0: don't wait at all."
)
@click.option("--ttl", type=Seconds(1, DAY_SECONDS), default=15.0, show_default=True, help="Session TTL in seconds.")
@click.option("--grace", type=Seconds(0, 3600), default=5.0, show_default=True, metavar="SECONDS")
@connection_options
@click.argument("command", nargs=-1, required=True)
def run(target: Target, name: str, timeout: float | None, ttl: float, grace: float, command: Sequence[str]) -> int:
    """Run COMMAND while holding a lock: lockmaster run --lock nightly -- ./backup.sh

    The command gets the fencing token in LOCKMASTER_FENCING_TOKEN and the lock's name in LOCKMASTER_LOCK; pass the
    token to whatever it writes to. Signals go on to it. If the lock is lost it gets SIGTERM, and SIGKILL after --grace
    seconds.

    Exit code: the command's own (128 + n if signal n ended it); 124 if the lock was not granted in time, 125 if it
    was lost while the command ran, 126 or 127 if the command could not be started.
    """
    return asyncio.run(run_under_lock(target, name, timeout, ttl, grace, command))


async def run_under_lock(
    target: Target, name: str, timeout: float | None, ttl: float, grace: float, command: Sequence[str]
) -> int:
    """Takes the lock, runs the command, gives the lock back. Returns the exit code; raises LockmasterError before the
    command has started."""
    async with target.client(ttl=ttl, label=f"run {command[0]}") as client:
        held = await granted(client, name, timeout)
        try:
            variables = {TOKEN_VARIABLE: str(held.fencing_token), NAME_VARIABLE: name}
            try:
                ended = await supervise(command, variables, until_lost(held), grace)
            except OSError as error:
                complain(f"{command[0]}: {error.strerror}")
                return start_failure(error)
        finally:
            try:
                await held.release()
            except LockmasterError as error:
                complain(f"giving the lock back: {error}")
    if ended.lock_lost:
        complain(f"lock {name!r} was lost while {command[0]} ran: it has been stopped")
        return LOCK_LOST
    return ended.code


async def granted(client: AsyncClient, name: str, timeout: float | None) -> Held:
    """Waits for the lock. A wait without an end begins only where the cluster answers, and says who is in the way."""
    if timeout is None:
        holder = (await client.locks.inspect(name)).holder
        if holder is not None:
            who = holder.label or f"session {holder.session_id}"
            complain(f"waiting for lock {name!r}, held by {who}; Ctrl-C gives up")
    return await client.lock(name, timeout=timeout).acquire()


async def until_lost(held: Held) -> None:
    """Returns once the lock is lost or no longer certainly held, whichever comes first."""
    while held.valid:
        # Timers don't count a suspended machine's time: look again at least once a second.
        limit = min(LOOK_SECONDS_MAX, max(LOOK_SECONDS_MIN, held.remaining))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(held.lost.wait(), limit)
