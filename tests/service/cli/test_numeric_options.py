"""Every number on the command line has a least and a most, and none is NaN: exit code 2, naming option and range."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import redirect_stderr

import click
import pytest
from lockmaster.cli import exit_codes
from lockmaster.cli.application import cli, invoke

SERVED = {"serve": "checked by server.settings, with the range (test_settings.py)"}
Path = tuple[str, ...]


def parameters(command: click.Command, path: Path = ()) -> Iterator[tuple[Path, click.Command, click.Parameter]]:
    if isinstance(command, click.Group):
        for name, below in sorted(command.commands.items()):
            yield from parameters(below, (*path, name))
    for parameter in command.params:
        yield path, command, parameter


NUMERIC = [
    pytest.param(path, command, parameter, id=" ".join((*path, parameter.human_readable_name)))
    for path, command, parameter in parameters(cli)
    if isinstance(parameter.type, click.types.IntParamType | click.types.FloatParamType) and path[0] not in SERVED
]


def words(path: Path, command: click.Command, wrong: click.Parameter, value: str) -> list[str]:
    """A command line that is right but for this value."""
    found = list(path)
    for parameter in command.params:
        if isinstance(parameter, click.Option) and (parameter is wrong or parameter.required):
            plain = "1"
            if isinstance(parameter.type, click.Path):
                plain = "." if parameter.type.dir_okay else os.devnull
            found += [parameter.opts[-1], value if parameter is wrong else plain]
    found.append("--")
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            found.append(value if parameter is wrong else "1")
    return found


def test_there_are_numbers() -> None:
    assert len(NUMERIC) >= 40


@pytest.mark.parametrize(("path", "command", "parameter"), NUMERIC)
def test_both_ends_are_stated(path: Path, command: click.Command, parameter: click.Parameter) -> None:
    kind = parameter.type
    assert isinstance(kind, click.IntRange | click.FloatRange)
    assert kind.min is not None
    assert kind.max is not None
    wrong = [kind.max + 1, kind.min - 1, 10**30]
    if isinstance(kind, click.FloatRange):
        wrong += [float("nan"), float("inf")]
    for value in wrong:
        told = io.StringIO()
        with redirect_stderr(told):
            code = invoke(words(path, command, parameter, str(value)))
        assert code == exit_codes.USAGE, (value, told.getvalue())
        assert " is not in the range " in told.getvalue()
        assert parameter.get_error_hint(click.Context(command)) in told.getvalue()
