"""`config`: versioned keys in namespaces."""

from __future__ import annotations

import asyncio
import getpass
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from lockmaster import AsyncClient
from lockmaster.cli.connection import Target, connection_options
from lockmaster.cli.consistency import consistency_option
from lockmaster.cli.exit_codes import NOT_FOUND, OK, USAGE
from lockmaster.cli.locks import with_client
from lockmaster.cli.numbers import POSITION, TERM
from lockmaster.cli.output import complain, output_option, print_json, print_json_line, print_rows, stdout, text_of
from lockmaster.cli.refusals import Refused
from lockmaster.client.consistency import Consistency
from lockmaster.client.watching import Change, Item

KEY_COLUMNS = {"key": "KEY", "value": "VALUE", "revision": "REVISION", "version": "VERSION", "author": "AUTHOR"}
LOG_COLUMNS = {
    "revision": "REVISION",
    "kind": "WHAT",
    "key": "KEY",
    "value": "VALUE",
    "author": "AUTHOR",
    "comment": "COMMENT",
}
SHOWN_MAX = 60


@click.group()
def config() -> None:
    """Read, write and watch configuration: keys in namespaces, every version kept."""


def author() -> str:
    """Who writes, for the history."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def no_key(namespace: str, key: str) -> str:
    """What is said of a key that isn't there."""
    return f"no key {key!r} in {namespace!r}; `lockmaster config get {namespace}` lists them"


@config.command("get")
@click.argument("namespace")
@click.argument("key", required=False)
@click.option("--prefix", is_flag=True, help="All keys that start with KEY; without KEY, the whole namespace.")
@click.option("--at", "at_revision", type=POSITION, default=0, help="The value as it was at this revision.")
@consistency_option
@output_option
@connection_options
def get_command(
    target: Target,
    output: str,
    namespace: str,
    key: str | None,
    prefix: bool,
    at_revision: int,
    consistency: Consistency,
) -> int:
    """Print a key's value, exactly as it is; without KEY, all keys of the namespace. Exit code 3 if it isn't there."""
    if prefix or key is None:

        async def ask_all(client: AsyncClient) -> list[Mapping[str, Any]]:
            space = client.config(namespace)
            items = await space.range(key or "", at_revision=at_revision, consistency=consistency)
            return [item_row(item) for item in items]

        rows = with_client(target, ask_all)
        print_rows(rows if output == "json" else [shortened(row) for row in rows], KEY_COLUMNS, output, empty="no keys")
        return OK

    async def ask(client: AsyncClient) -> Item | None:
        return await client.config(namespace).get(key, at_revision=at_revision, consistency=consistency)

    item = with_client(target, ask)
    if item is None:
        complain(no_key(namespace, key))
        return NOT_FOUND
    if output == "json":
        print_json(item_row(item))
    else:
        sys.stdout.buffer.write(item.value)
        if sys.stdout.isatty() and not item.value.endswith(b"\n"):
            print()
    return OK


@config.command("put")
@click.argument("namespace")
@click.argument("key")
@click.argument("value", required=False)
@click.option("-f", "--file", type=click.File("rb"), help="Take the value from a file; - is standard input.")
@click.option("--if-revision", type=POSITION, help="Only if its revision is this; 0: only if it isn't there.")
@click.option("-m", "--comment", default="", help="Kept in the history.")
@output_option
@connection_options
def put_command(
    target: Target,
    output: str,
    namespace: str,
    key: str,
    value: str | None,
    file: Any,
    if_revision: int | None,
    comment: str,
) -> None:
    """Write a key. Exit code 4 if --if-revision does not hold."""
    if (value is None) == (file is None):
        raise Refused("give the value, or --file", USAGE)
    content: bytes = file.read() if value is None else value.encode()

    async def ask(client: AsyncClient) -> int:
        space = client.config(namespace)
        return await space.put(key, content, if_revision=if_revision, author=author(), comment=comment)

    revision = with_client(target, ask)
    if output == "json":
        print_json({"revision": revision})
    else:
        stdout.print(f"revision {revision}")


@config.command("delete")
@click.argument("namespace")
@click.argument("key")
@click.option("--if-revision", type=POSITION, help="Only if its revision is this.")
@click.option("-m", "--comment", default="", help="Kept in the history.")
@output_option
@connection_options
def delete_command(target: Target, output: str, namespace: str, key: str, if_revision: int | None, comment: str) -> int:
    """Delete a key; its history stays. Exit code 3 if it isn't there."""

    async def ask(client: AsyncClient) -> bool:
        return await client.config(namespace).delete(key, if_revision=if_revision, author=author(), comment=comment)

    deleted = with_client(target, ask)
    if output == "json":
        print_json({"deleted": deleted})
    elif deleted:
        stdout.print("deleted")
    if deleted:
        return OK
    complain(no_key(namespace, key))
    return NOT_FOUND


@config.command("edit")
@click.argument("namespace")
@click.argument("key")
@click.option("-m", "--comment", default="", help="Kept in the history.")
@connection_options
def edit_command(target: Target, namespace: str, key: str, comment: str) -> int:
    """Edit a key in $EDITOR. Exit code 4, with the text kept in a file, if somebody else wrote it meanwhile."""

    if not (os.environ.get("VISUAL") or os.environ.get("EDITOR") or sys.stdout.isatty()):
        raise Refused("no terminal to edit on: name a command in EDITOR, or use config put --file", USAGE)

    async def ask(client: AsyncClient) -> Item | None:
        return await client.config(namespace).get(key)

    item = with_client(target, ask)
    before = item.value if item is not None else b""
    try:
        edited = click.edit(before.decode(), extension=Path(key).suffix or ".txt")
    except UnicodeDecodeError:
        raise Refused(f"{key!r} is not text: use config get and config put --file", USAGE) from None
    except click.ClickException as error:
        raise Refused(f"{error.format_message()}; name another in EDITOR, or use config put --file", USAGE) from None
    if edited is not None and not before.endswith(b"\n"):
        edited = edited.removesuffix("\n")  # editors end the last line; the value didn't
    if edited is None or edited.encode() == before:
        stdout.print("nothing changed")
        return OK

    async def write(client: AsyncClient) -> int:
        revision = item.revision if item is not None else 0
        space = client.config(namespace)
        return await space.put(key, edited.encode(), if_revision=revision, author=author(), comment=comment)

    try:
        stdout.print(f"revision {with_client(target, write)}")
    except Exception:
        kept = Path(f"{Path(key).name or 'key'}.rejected")
        kept.write_text(edited)
        complain(f"not written; your text is in {kept}")
        raise
    return OK


@config.command("log")
@click.argument("namespace")
@click.argument("key", default="")
@click.option("-n", "--limit", type=click.IntRange(1, 100_000), default=20, show_default=True)
@output_option
@connection_options
def log_command(target: Target, output: str, namespace: str, key: str, limit: int) -> int:
    """Show every version of a key, or of the whole namespace, newest first. Exit code 3 if there is none."""

    async def ask(client: AsyncClient) -> list[Mapping[str, Any]]:
        return [change_row(change) for change in await client.config(namespace).history(key, limit=limit)]

    rows = with_client(target, ask)
    if rows or output == "json":
        print_rows(rows if output == "json" else [shortened(row) for row in rows], LOG_COLUMNS, output, empty="")
    if rows:
        return OK
    what = f"key {key!r}" if key else "any key"
    complain(f"no history of {what} in {namespace!r}; `lockmaster config get {namespace}` lists what is there")
    return NOT_FOUND


@config.command("watch")
@click.argument("namespace")
@click.argument("key", default="")
@click.option("--prefix", is_flag=True, help="All keys that start with KEY; without KEY, the whole namespace.")
@click.option("--from", "from_revision", type=POSITION, default=0, help="From this revision on.")
@click.option("-n", "--count", type=TERM, help="Stop after this many changes.")
@output_option
@connection_options
def watch_command(
    target: Target, output: str, namespace: str, key: str, prefix: bool, from_revision: int, count: int | None
) -> None:
    """Print changes as they happen, one a line; no gap, across any failover. Ctrl-C stops it."""
    asyncio.run(follow(target, output, namespace, key, prefix or not key, from_revision, count))


async def follow(
    target: Target, output: str, namespace: str, key: str, prefix: bool, from_revision: int, count: int | None
) -> None:
    """Prints changes until `count` of them, or for ever."""
    seen = 0
    async with target.client(label="config watch") as client:
        space = client.config(namespace)
        watch = (
            space.watch(prefix=key, from_revision=from_revision)
            if prefix
            else space.watch(key, from_revision=from_revision)
        )
        async with watch as changes:
            async for change in changes:
                row = change_row(change)
                if output == "json":
                    print_json_line(row)
                else:
                    short = shortened(row)
                    print(f"{short['revision']} {short['kind']} {short['key']} {short['value']}", flush=True)
                seen += 1
                if seen == count:
                    return


def item_row(item: Item) -> dict[str, Any]:
    """One key as a row."""
    return {
        "key": item.key,
        "value": item.value,
        "revision": item.revision,
        "create_revision": item.create_revision,
        "version": item.version,
        "author": item.author,
        "comment": item.comment,
    }


def change_row(change: Change) -> dict[str, Any]:
    """One change as a row."""
    return {**item_row(change.item), "kind": change.kind, "coalesced": change.coalesced}


def shortened(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose value fits in a table."""
    text = text_of(row["value"]).replace("\n", "⏎")
    return {**row, "value": text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 1] + "…"}
