"""`snapshot` and `backup`: what a member that runs makes of its state."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import grpc
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from lockmaster import archive
from lockmaster.api import admin_pb2, admin_pb2_grpc
from lockmaster.cli.connection import Target, connection_options
from lockmaster.cli.exit_codes import CONFLICT, CORRUPT, STORAGE_FAILED, WRONG_DIRECTORY
from lockmaster.cli.files import NewFile
from lockmaster.cli.numbers import POSITION, Seconds
from lockmaster.cli.output import Row, complain, output_option, print_json, print_rows
from lockmaster.cli.refusals import Refused
from lockmaster.cli.repeating import idempotency_key_option
from lockmaster.client.failures import error_of_rpc
from lockmaster.errors import LockmasterError, Unavailable

COLUMNS = {"endpoint": "ENDPOINT", "index": "INDEX", "term": "TERM", "chunks": "CHUNKS", "bytes": "BYTES"}
PROGRESS_HELP: Final = "Show a bar [default: on a terminal]."
T = TypeVar("T")


@contextlib.contextmanager
def archive_explained(path: Path | None = None) -> Iterator[None]:
    """Errors of an archive and of files as one line with their exit code (docs/exit-codes.md).

    `path` is named where an error of the operating system names no file: a write's doesn't.
    """
    try:
        yield
    except archive.NotAnArchive as error:
        raise Refused(str(error), WRONG_DIRECTORY) from None
    except archive.ArchiveDamaged as error:
        raise Refused(str(error), CORRUPT) from None
    except OSError as error:
        named = error.filename or path
        where = f"{named}: " if named else ""
        code = CONFLICT if isinstance(error, FileExistsError) else STORAGE_FAILED
        raise Refused(f"{where}{error.strerror or error}", code) from None


@contextlib.contextmanager
def backup_progress(wanted: bool | None, what: str) -> Iterator[archive.Progress | None]:
    """A bar on standard error, where that is a terminal or it is wanted."""
    if not (sys.stderr.isatty() if wanted is None else wanted):
        yield None
        return
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _ask(target: Target, endpoint: str, call: Callable[[Any], T]) -> T:
    with target.channel(endpoint) as channel:
        try:
            return call(admin_pb2_grpc.AdminStub(channel))
        except grpc.RpcError as error:
            raise error_of_rpc(error) from None


def _row(endpoint: str, info: admin_pb2.SnapshotInfo) -> Row:
    return {
        "endpoint": endpoint, "index": info.index, "term": info.term, "chunks": info.chunks, "bytes": info.bytes_total
    }  # fmt: skip


@click.group()
def snapshot() -> None:
    """A member's own snapshot: what a member that is far behind is sent, and what a backup is made of."""


@snapshot.command("make")
@click.option(
    "--index-min",
    type=POSITION,
    default=0,
    help="Nothing is made if there is one at or above it.",
)
@click.option("--timeout", type=Seconds(1, 86_400), default=600.0, show_default=True, metavar="SECONDS")
@idempotency_key_option
@output_option
@connection_options
def make_command(target: Target, output: str, index_min: int, timeout: float, idempotency_key: str) -> None:
    """Make one now, on the first of --endpoints, unless nothing was applied there since the last."""
    request = admin_pb2.MakeSnapshotRequest(index_min=index_min, idempotency_key=idempotency_key)
    endpoint = target.endpoints[0]
    answer = _ask(target, endpoint, lambda stub: stub.MakeSnapshot(request, timeout=timeout))
    print_rows([{**_row(endpoint, answer.snapshot), "made": answer.made}], COLUMNS, output, empty="")


@snapshot.command("list")
@output_option
@connection_options
def list_command(target: Target, output: str) -> None:
    """The snapshot of each of --endpoints, if it has one."""
    rows: list[Row] = []
    last: LockmasterError | None = None
    request = admin_pb2.ListSnapshotsRequest()
    for endpoint in target.endpoints:
        try:
            answer = _ask(target, endpoint, lambda stub: stub.ListSnapshots(request, timeout=target.timeout))
        except LockmasterError as error:
            complain(f"{endpoint}: {error}")
            last = error
            continue
        rows += [_row(endpoint, info) for info in answer.snapshots]
    print_rows(rows, COLUMNS, output, empty="no snapshot has been made")
    if last is not None:
        raise last


@snapshot.command("verify")
@click.option("--timeout", type=Seconds(1, 86_400), default=3600.0, show_default=True, metavar="SECONDS")
@output_option
@connection_options
def verify_command(target: Target, output: str, timeout: float) -> None:
    """Re-read the snapshot of the first of --endpoints and compare every chunk with its hash.

    Exit code 4 names a chunk that is damaged; 3: there is no snapshot.
    """
    request, endpoint = admin_pb2.VerifySnapshotRequest(), target.endpoints[0]
    answer = _ask(target, endpoint, lambda stub: stub.VerifySnapshot(request, timeout=timeout))
    print_rows([_row(endpoint, answer.snapshot)], COLUMNS, output, empty="")
    if output != "json":
        click.echo("every chunk is what its hash says")


@click.command()
@click.argument("file", type=NewFile(), metavar="ARCHIVE")
@click.option("--timeout", type=Seconds(1, 86_400), default=3600.0, show_default=True, metavar="SECONDS")
@click.option("--progress/--no-progress", default=None, help=PROGRESS_HELP)
@output_option
@connection_options
def backup(target: Target, output: str, file: Path, timeout: float, progress: bool | None) -> None:
    """Write a consistent backup to the file ARCHIVE: everything acknowledged before now is in it.

    From the first of --endpoints that can: any full member. Every chunk is verified where it is read and where it is
    received; the file has its name only when it is whole and on the disk. `lockmaster restore` takes it.
    """
    with archive_explained(file):
        head = fetch_backup(target, file, timeout, progress)
    m = head.manifest
    facts = {
        "file": str(file),
        "cluster_id": m.cluster_id,
        "index": m.index,
        "term": m.term,
        "revision": m.revision,
        "bytes": head.bytes_total,
        "chunks": len(head.digests),
    }
    if output == "json":
        print_json(facts)
    else:
        click.echo(f"{file}: revision {m.revision}, entry {m.index}, {head.bytes_total} bytes of state, verified")


def fetch_backup(target: Target, file: Path, timeout: float, progress: bool | None) -> archive.Head:
    """An archive from the first of --endpoints that can. Raises LockmasterError, and as `archive` does."""
    last: LockmasterError = Unavailable("no member answered")
    for endpoint in target.endpoints:
        with archive.ArchiveWriter(file) as writer, target.channel(endpoint) as channel:
            pieces = admin_pb2_grpc.AdminStub(channel).Backup(admin_pb2.BackupRequest(), timeout=timeout)
            try:
                with backup_progress(progress, "backup") as seen:
                    for piece in pieces:
                        writer.write(piece.data)
                        if seen is not None and writer.parser.head is not None:
                            seen(writer.parser.bytes_done, writer.parser.head.bytes_total)
            except grpc.RpcError as error:
                last = error_of_rpc(error)
                continue
            finally:
                pieces.cancel()
            return writer.finish()
    raise last
