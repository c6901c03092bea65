"""The group of commands, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from importlib import metadata

import click

from lockmaster.cli import exit_codes
from lockmaster.cli.backups import backup, snapshot
from lockmaster.cli.bench import bench
from lockmaster.cli.cluster import status
from lockmaster.cli.configuration import config
from lockmaster.cli.connection import Target
from lockmaster.cli.demo import demo
from lockmaster.cli.founding import init, recover, restore
from lockmaster.cli.gate import gate
from lockmaster.cli.jobs import job
from lockmaster.cli.locks import lock
from lockmaster.cli.members import members
from lockmaster.cli.output import complain
from lockmaster.cli.refusals import Refused, next_step
from lockmaster.cli.run import run
from lockmaster.cli.serving import dev, handover, serve
from lockmaster.errors import LockmasterError

EPILOG = """Start here: `lockmaster demo` shows what it is; `lockmaster dev` serves one member for development.
Exit codes: 0 done, 1 failed, 2 mistake in the command, 3 not found, 4 conflict, 69 unavailable, 75 unknown outcome,
77 denied, 124 lock timeout, 125 lock lost, 130 interrupted."""


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(metadata.version("lockmaster"), "-V", "--version", prog_name="lockmaster")
def cli() -> None:
    """Distributed locks you can trust, and live configuration."""


COMMANDS = (
    demo, dev, serve, handover, status, members, gate, lock, run, config, bench,
    init, snapshot, backup, restore, recover, job,
)  # fmt: skip
for command in COMMANDS:
    cli.add_command(command)


def invoke(arguments: Sequence[str], target: Target | None = None) -> int:
    """Runs one command line and returns its exit code. Never raises, never prints a traceback for a user's mistake."""
    return run_group(cli, "lockmaster", arguments, target)


def run_group(group: click.Group, name: str, arguments: Sequence[str], target: Target | None = None) -> int:
    """As `invoke`, for another group of commands by the name that its user types."""
    try:
        answer = group.main(args=list(arguments), prog_name=name, standalone_mode=False, obj=target)
        return answer if isinstance(answer, int) else exit_codes.OK
    except click.exceptions.NoArgsIsHelpError as shown:
        print(shown.ctx.get_help() if shown.ctx else "", file=sys.stderr)
        return exit_codes.USAGE
    except click.ClickException as mistake:
        context = getattr(mistake, "ctx", None)
        see = f" (see {context.command_path} --help)" if context is not None else ""
        complain(mistake.format_message() + see)
        return mistake.code if isinstance(mistake, Refused) else exit_codes.USAGE
    except (click.Abort, KeyboardInterrupt, asyncio.CancelledError):
        return exit_codes.INTERRUPTED
    except LockmasterError as error:
        complain(f"{error}{next_step(error)}")
        return exit_codes.exit_code_of(error)
    except SystemExit:
        # click's answer to a closed pipe, and to nothing else here: whoever read had enough.
        return exit_codes.OK
    except OSError as error:
        complain(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        return exit_codes.FAILED
