"""`init`, `restore`, `recover`: how a cluster begins, where no server runs yet (docs/operations.md)."""

from __future__ import annotations

import contextlib
import functools
import secrets
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import grpc

from lockmaster import archive
from lockmaster.addresses import split_address
from lockmaster.api import admin_pb2, admin_pb2_grpc
from lockmaster.cli.backups import PROGRESS_HELP, archive_explained, backup_progress
from lockmaster.cli.connection import Target, connection_options
from lockmaster.cli.exit_codes import CONFLICT, STORAGE_FAILED, USAGE
from lockmaster.cli.numbers import LEVEL_LIMIT
from lockmaster.cli.output import output_option, print_json
from lockmaster.cli.refusals import Refused, refuse_a_file
from lockmaster.cli.serving import DEFAULT_CLIENT, DEFAULT_PEER, require_server_extra
from lockmaster.client.failures import error_of_rpc

if TYPE_CHECKING:
    from lockmaster.storage.directory import DataDirectory
    from lockmaster.storage.founding import Founded, Source
    from lockmaster.storage.survivor import Survivor

CLUSTER_ID_DIGITS: Final = 32
CONFIRM_DIGITS_MIN: Final = 8
"""Leading digits of the cluster's id that count as its confirmation."""
CLOCK_SLACK_S: Final = 60


@dataclass(frozen=True, slots=True)
class Place:
    """The first member of the cluster to be founded."""

    name: str
    advertise_peer: str
    advertise_client: str
    full_min: int


def next_line(path: Path, place: Place) -> str:
    """How the member that was founded is started. Only what was given here is known: not where it listens."""
    words = ["lockmaster", "serve", "--data-dir", str(path), "--name", place.name]
    if place.advertise_client != DEFAULT_CLIENT:
        words += ["--advertise-client", place.advertise_client]
    if place.advertise_peer != DEFAULT_PEER:
        words += ["--advertise-peer", place.advertise_peer]
    return (
        f"start it with `{shlex.join(words)}` and with its listen addresses and certificates (or --insecure); "
        "the other members join it, each with a blank directory"
    )


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Errors of storage, of an archive and of files as one line with their exit code; needs the server extra."""
    from lockmaster.storage.errors import StorageFailed, exit_code
    from lockmaster.storage.founding import NotBlank
    from lockmaster.storage.survivor import NoSurvivor

    try:
        with archive_explained():
            yield
    except (NotBlank, NoSurvivor) as error:
        raise Refused(str(error), CONFLICT) from None
    except StorageFailed as error:
        raise Refused(str(error), exit_code(error)) from None


def place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds what the first member's entry in the member list needs; the command gets it as `place`."""

    @click.option(
        "--name", default="", help="The member's name, as its `serve` will have it; required with --data-dir."
    )
    @click.option("--advertise-client", default=DEFAULT_CLIENT, show_default=True, help="What clients will dial.")
    @click.option("--advertise-peer", default=DEFAULT_PEER, show_default=True, help="What the other members will dial.")
    @click.option(
        "--full-min", type=click.IntRange(1, 9), default=2, show_default=True,
        help="Fewest full voters before writes are admitted; 1 only for development.",
    )  # fmt: skip
    @functools.wraps(command)
    def with_place(name: str, advertise_client: str, advertise_peer: str, full_min: int, **others: Any) -> Any:
        for flag, address in (("--advertise-client", advertise_client), ("--advertise-peer", advertise_peer)):
            try:
                split_address(address)
            except ValueError as error:
                raise Refused(f"{flag}: {error}", USAGE) from None
        if len(name.encode()) > 253 or not name.isprintable():
            raise Refused("--name: 1 to 253 bytes without control characters", USAGE)
        return command(place=Place(name, advertise_peer, advertise_client, full_min), **others)

    return with_place


def data_dir(text: str, *, required: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option --data-dir."""
    return click.option("--data-dir", type=click.Path(path_type=Path), required=required, help=text)


@click.command()
@data_dir("Found the cluster here, without a server; blank or not there yet.", required=False)
@place_options
@click.option("--cluster-id", default="", help="32 hex digits for the new cluster [default: drawn].")
@click.option(
    "--level", type=click.IntRange(1, LEVEL_LIMIT), default=None, help="Active level [default: the highest known]."
)
@output_option
@connection_options
def init(target: Target, output: str, place: Place, data_dir: Path | None, cluster_id: str, level: int | None) -> None:
    """Found a new cluster, exactly once: in a data directory, or on a blank member that runs (--endpoints).

    Refused (exit code 4) on a directory that belongs to a cluster already, by either way. Repeated over --endpoints
    with the same --cluster-id it answers as it did the first time.
    """
    chosen = cluster_id_of(cluster_id)
    if data_dir is None:
        answer = _bootstrap(target, place, chosen, level or 0)
        told = {"cluster_id": answer.cluster_id.hex(), "member_id": answer.member_id}
    else:
        _check_target(data_dir, place)
        told = {"cluster_id": _found_empty(data_dir, place, chosen, level).hex(), "member_id": 1}
    if output == "json":
        print_json(told)
        return
    click.echo(f"cluster {told['cluster_id']} begins; this is member {told['member_id']}")
    if data_dir is not None:
        click.echo(next_line(data_dir, place))


def cluster_id_of(text: str) -> bytes:
    """16 bytes of 32 hex digits, b"" of "". Raises Refused."""
    if not text:
        return b""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) * 2 != CLUSTER_ID_DIGITS:
        raise Refused(f"--cluster-id: must be {CLUSTER_ID_DIGITS} hex digits", USAGE)
    return found


def _bootstrap(target: Target, place: Place, cluster_id: bytes, level: int) -> admin_pb2.BootstrapResponse:
    if len(target.endpoints) != 1:
        raise Refused("--endpoints: a cluster is founded on one member; name that one", USAGE)
    request = admin_pb2.BootstrapRequest(full_min=place.full_min, cluster_id=cluster_id, level=level)
    with target.channel(target.endpoints[0]) as channel:
        try:
            answer: admin_pb2.BootstrapResponse = admin_pb2_grpc.AdminStub(channel).Bootstrap(
                request, timeout=target.timeout
            )
        except grpc.RpcError as error:
            raise error_of_rpc(error) from None
    return answer


def _found_empty(path: Path, place: Place, cluster_id: bytes, level: int | None) -> bytes:
    require_server_extra()
    from lockmaster.storage.founding import LEVEL_KNOWN, initialise

    if level is not None and level > LEVEL_KNOWN:
        raise Refused(f"--level: this binary knows up to {LEVEL_KNOWN}", USAGE)
    chosen = cluster_id or secrets.token_bytes(CLUSTER_ID_DIGITS // 2)
    with explained():
        initialise(
            str(path), founder_of(place), cluster_id=chosen, level=level or LEVEL_KNOWN, unix_seconds=int(time.time())
        )
    return chosen


def _check_target(path: Path, place: Place) -> None:
    """Whether a cluster can be founded there, as far as looking tells. Raises Refused; nothing was written then."""
    require_server_extra()
    from lockmaster.storage.files import RealFiles
    from lockmaster.storage.founding import refuse_unless_blank

    refuse_a_file(path, STORAGE_FAILED)
    with explained():
        refuse_unless_blank(RealFiles(), str(path))
    if not place.name:
        raise Refused("--name is missing: the member's name, as its `serve` will have it", USAGE)


def founder_of(place: Place) -> Any:
    """The place as storage takes it; needs the server extra."""
    from lockmaster.storage.founding import Founder

    return Founder(place.name, place.advertise_peer, place.advertise_client, place.full_min)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="ARCHIVE")
@data_dir("The new cluster's first member; blank or not there yet.", required=False)
@place_options
@click.option(
    "--replay", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR",
    help="Apply the log of this directory on top: a witness's or any member's of the same cluster, not running.",
)  # fmt: skip
@click.option("--verify-only", is_flag=True, help="Check every hash of the archive and write nothing.")
@click.option("--progress/--no-progress", default=None, help=PROGRESS_HELP)
@output_option
def restore(
    output: str,
    place: Place,
    file: Path,
    data_dir: Path | None,
    replay: Path | None,
    verify_only: bool,
    progress: bool | None,
) -> None:
    """Begin a new cluster with what a backup holds. The archive is verified whole before anything is written.

    The new cluster has a new id. Every session of the old one is over: its locks are in their lock-delay, its
    ephemeral keys are gone. Fencing tokens and revisions go on above all that the old cluster can have handed out.
    Refused (exit code 4) unless --data-dir is blank.
    """
    with archive_explained(), backup_progress(progress, "verifying") as seen:
        head = archive.verify(file, seen)
    if verify_only:
        _tell_archive(head, output)
        return
    if data_dir is None:
        raise Refused("--data-dir is missing: where the new cluster's first member shall live", USAGE)
    _check_target(data_dir, place)
    check_clock(head.manifest.created_unix_s - CLOCK_SLACK_S, "the backup was made")
    with explained(), contextlib.ExitStack() as stack:
        from lockmaster.storage.founding import archive_source

        shown = stack.enter_context(backup_progress(progress, "restoring"))
        source = archive_source(head, file, shown)
        if replay is not None:
            source = stack.enter_context(_with_log(source, replay, head))
        founded = _found_on(source, data_dir, place)
    _tell(founded, data_dir, place, output)


@contextlib.contextmanager
def _with_log(source: Source, path: Path, head: archive.Head) -> Iterator[Source]:
    from lockmaster.storage.directory import DataDirectory
    from lockmaster.storage.founding import entries_after
    from lockmaster.storage.survivor import check_follows

    directory = DataDirectory.open(path, create=False)
    try:
        manifest = head.manifest
        check_follows(directory, manifest.cluster_id, manifest.index, manifest.term)
        yield replace(source, entries=entries_after(directory, manifest.index))
    finally:
        directory.close()


def _found_on(source: Source, path: Path, place: Place) -> Founded:
    from lockmaster.storage.founding import found

    return found(str(path), source, founder_of(place), unix_seconds=int(time.time()))


def check_clock(not_before: int, what: str) -> None:
    """Tokens go on above the old cluster's by the wall clock: one that is behind would repeat them."""
    now = int(time.time())
    if now < not_before:
        raise Refused(
            f"this machine's clock says {_time(now)}, but {what} at {_time(not_before)}: set the clock; fencing tokens "
            "could come twice",
            CONFLICT,
        )


def _time(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _tell_archive(head: archive.Head, output: str) -> None:
    m = head.manifest
    facts = {
        "cluster_id": m.cluster_id,
        "made": _time(m.created_unix_s),
        "member": m.member,
        "version": m.version,
        "index": m.index,
        "term": m.term,
        "revision": m.revision,
        "level": m.level,
        "bytes": head.bytes_total,
        "chunks": len(head.digests),
    }
    if output == "json":
        print_json(facts)
        return
    click.echo(f"every hash is right: {len(head.digests)} chunks, {head.bytes_total} bytes")
    for name, value in facts.items():
        click.echo(f"  {name:<11} {value}")


def _tell(founded: Founded, path: Path, place: Place, output: str, more: dict[str, object] | None = None) -> None:
    """What was founded; as JSON with `more` beside it, one document."""
    facts = {
        "cluster_id": founded.cluster_id.hex(),
        "member_id": founded.member_id,
        "old_index": founded.index,
        "old_term": founded.term,
        "replayed": founded.replayed,
        "old_revision": founded.stored_revision,
        "first_revision": founded.first_revision,
        "sessions_ended": founded.sessions_ended,
        "locks_released": founded.locks_released,
    }
    if output == "json":
        print_json(facts | (more or {}))
        return
    click.echo(f"cluster {facts['cluster_id']} begins with the old one's state after entry {founded.index}")
    click.echo(f"  {founded.sessions_ended} sessions ended, {founded.locks_released} locks are in their lock-delay")
    click.echo(f"  tokens and revisions go on above {founded.first_revision} (the old ones: {founded.stored_revision})")
    click.echo(next_line(path, place))


@click.command()
@click.option(
    "--survivor", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True,
    help="Data directory of a full member of the lost cluster, not running. It is read and stays as it is.",
)  # fmt: skip
@data_dir("The new cluster's first member; blank or not there yet.")
@place_options
@click.option("--confirm", default="", metavar="CLUSTER_ID", help="The lost cluster's id, instead of the question.")
@output_option
def recover(output: str, place: Place, survivor: Path, data_dir: Path, confirm: str) -> None:
    """Begin a new cluster with what one member still has, when the majority is lost for good.

    Only for then: while the others may come back, this makes two clusters that both hold your locks. Says what the
    survivor has and what may be lost, and asks for the lost cluster's id; `-o json` has both in its answer. Refused
    from a witness, which has no state (exit code 4).
    """
    _check_target(data_dir, place)
    from lockmaster.storage.directory import DataDirectory
    from lockmaster.storage.survivor import examine, source_of

    with explained():
        directory = DataDirectory.open(survivor, create=False)
        try:
            facts = examine(directory)
            check_clock(facts.revision >> 20, "the survivor's revision was reached")
            if output != "json" or not confirm:  # who is asked is told before, beside the document
                _tell_survivor(facts, directory, err=output == "json")
            _confirm(facts.cluster_id.hex(), confirm)
            founded = _found_on(source_of(directory, facts), data_dir, place)
        finally:
            directory.close()
    _tell(founded, data_dir, place, output, _survivor_facts(facts, survivor))


def _survivor_facts(facts: Survivor, path: Path) -> dict[str, object]:
    """What the survivor has, and from where on writes may be lost: as `_tell_survivor` says it, for programs."""
    own = facts.member
    others = [m for m in facts.configuration.members if m.member_id != facts.member_id]
    survivor = {
        "data_dir": str(path),
        "cluster_id": facts.cluster_id.hex(),
        "member_id": facts.member_id,
        "name": own.name if own is not None else "",
        "voter": own is not None and own.voter,
        "applied_index": facts.applied,
        "revision": facts.revision,
        "last_index": facts.last_index,
        "last_term": facts.last_term,
        "term_seen": facts.term,
        "others": [{"member_id": m.member_id, "name": m.name, "peer_address": m.peer_address} for m in others],
    }
    may_be_lost = {
        "after_index": facts.last_index,
        "after_term": facts.last_term,
        "what": "whatever the others acknowledged after this entry without this member; nothing here can tell whether "
        "there was any",
    }
    return {"survivor": survivor, "may_be_lost": may_be_lost}


def _tell_survivor(facts: Survivor, directory: DataDirectory, *, err: bool) -> None:
    own, say = facts.member, functools.partial(click.echo, err=err)
    who = f"{own.name}, {'voter' if own.voter else 'learner'}" if own is not None else "removed from the cluster"
    say(f"{directory.path}: member {facts.member_id} ({who}) of cluster {facts.cluster_id.hex()}")
    say(f"  its state stands at entry {facts.applied}, revision {facts.revision}")
    say(f"  its log ends with entry {facts.last_index} of term {facts.last_term}; it has seen term {facts.term}")
    others = [m for m in facts.configuration.members if m.member_id != facts.member_id]
    if others:
        say("  the others, as far as it knows: " + ", ".join(f"{m.name} ({m.peer_address})" for m in others))
    say(
        "What will be in the new cluster: everything up to that last entry. Entries that were never confirmed to it are"
    )
    say("kept too; a caller of one of them was told that the outcome is unknown.")
    say(f"What may be lost, and cannot be known here: whatever the others acknowledged after entry {facts.last_index}")
    say(f"(term {facts.last_term}) without this member. If it was down or behind before the loss, that may be much.")
    say("Every session ends, every lock is released after its lock-delay, ephemeral keys are gone.")
    say("None of the others may ever be started again with its old directory.")


def _confirm(cluster_id: str, given: str) -> None:
    """The id, or its first digits, typed."""
    if not given:
        click.echo("Type the lost cluster's id (8 digits or more) to go on: ", nl=False, err=True)
        given = sys.stdin.readline()
        if not given:  # there is nobody to type it, or Ctrl-D
            click.echo(err=True)
            told = f"the lost cluster's id is {cluster_id}; nothing was written"
            raise Refused(f"not confirmed: give --confirm CLUSTER_ID, {told}", USAGE)
    typed = given.strip().lower()
    if len(typed) < CONFIRM_DIGITS_MIN or not cluster_id.startswith(typed):
        raise Refused(f"not confirmed: the lost cluster's id is {cluster_id}; nothing was written", CONFLICT)
