"""What commands print: tables for people, JSON for programs; errors in one line on standard error."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table

Row = Mapping[str, Any]

WIDTH_OF_FILES = 200
stdout = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH_OF_FILES)


def output_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `-o text|json`, passed to the command as `output`."""
    option = click.option(
        "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Tables for people or JSON."
    )
    return functools.wraps(command)(option(command))


def complain(message: str) -> None:
    """One line on standard error, whatever the message holds."""
    print(f"lockmaster: {' '.join(message.split())}", file=sys.stderr)


def print_json(value: object) -> None:
    """JSON on standard output; bytes as UTF-8 text where they are, else as {"base64": …}."""
    print(json.dumps(value, indent=2, default=_plain), flush=True)


def print_json_line(value: object) -> None:
    """One JSON value on one line: for streams of them."""
    print(json.dumps(value, default=_plain), flush=True)


def print_rows(rows: Sequence[Row], columns: Mapping[str, str], output: str, *, empty: str) -> None:
    """Rows as a table with `columns` (key → heading), or whole as JSON. `empty` is said where there is none."""
    if output == "json":
        print_json(list(rows))
        return
    if not rows:
        print(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in columns.values():
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(key, "")) for key in columns))
    stdout.print(table, crop=False)


def text_of(value: bytes) -> str:
    """Bytes as a person reads them: UTF-8 where it is, else an escaped form."""
    return value.decode(errors="backslashreplace")


def duration(milliseconds: int) -> str:
    """Milliseconds as `12 ms`, `3.4 s`, `5 min`, `2.1 h`."""
    for limit, unit, size in ((1_000, "ms", 1), (60_000, "s", 1_000), (3_600_000, "min", 60_000)):
        if milliseconds < limit:
            return f"{milliseconds} ms" if size == 1 else f"{milliseconds / size:.1f} {unit}"
    return f"{milliseconds / 3_600_000:.1f} h"


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return text_of(value) if isinstance(value, bytes) else str(value)


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            import base64

            return {"base64": base64.b64encode(value).decode()}
    raise TypeError(f"{type(value).__name__} is not JSON")
