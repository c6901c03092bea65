"""What is on the command line, checked before a kubeconfig is read or an API server asked."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, Final

import click

from lockmaster.cli import exit_codes
from lockmaster.cli.members import id_given
from lockmaster.cli.refusals import Refused

NAME_LENGTH_MAX: Final = 253
NAMESPACE_LENGTH_MAX: Final = 63
BACKUP_LENGTH_MAX: Final = 200
"""Of a LockBackup's name: those of its archives are made from it."""
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
"""As the operator's objects and the claims that they name are called: a narrower rule than Kubernetes'."""


class ObjectName(click.types.StringParamType):
    """The name of a Kubernetes object."""

    name = "name"

    def __init__(self, length_max: int = NAME_LENGTH_MAX) -> None:
        self.length_max = length_max

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text itself. A usage error names what it is for, and what a name is."""
        text = str(value)
        if not _NAME.fullmatch(text) or len(text) > self.length_max:
            shown = text if len(text) <= NAME_LENGTH_MAX else f"{text[:20]}… of {len(text)} characters"
            limit = f"1 to {self.length_max} small letters, digits and -, with a letter or digit at both ends"
            self.fail(f"{shown!r} is no object's name: {limit}.", param, ctx)
        return text


def first(check: Callable[..., None]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Runs `check` on the command's words before anything else of it. Stands above `access_options`."""

    def checked(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def run(**given: Any) -> Any:
            check(**given)
            return command(**given)

        return run

    return checked


def member_words(member: str, **_others: Any) -> None:
    """A number is a member id: one that can't be is refused."""
    id_given(member)


def gate_words(operation: str, level: int | None, expected_epoch: int | None, **_others: Any) -> None:
    """LEVEL and --expected-epoch go with an operation, and with an operation alone."""
    if (level is None) != (operation == "status"):
        raise Refused(f"gate {operation}: {'takes no LEVEL' if level else 'give the LEVEL'}", exit_codes.USAGE)
    if expected_epoch is not None and operation == "status":
        raise Refused("gate status: takes no --expected-epoch, it changes nothing", exit_codes.USAGE)


def backup_words(file: object, claim: str | None, name: str | None, **_others: Any) -> None:
    """One place, and a name only for a LockBackup."""
    if (file is None) == (claim is None):
        raise Refused("backup: give --file, or --claim for a LockBackup: exactly one of them", exit_codes.USAGE)
    if name is not None and claim is None:
        raise Refused("backup: --name is the LockBackup's and goes with --claim; there is none", exit_codes.USAGE)
