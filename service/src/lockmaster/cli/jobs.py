"""`job`: what the operator's Jobs run in the members' image (operator.md §1): backup, restore, recover, on a volume.

Like the commands of the same names, but each may be killed at any point and be run again: what was finished is found
finished and is told again. The result is one line of JSON in --report, which is the pod's termination message.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from lockmaster import archive
from lockmaster.cli.backups import archive_explained, fetch_backup
from lockmaster.cli.connection import Target, connection_options
from lockmaster.cli.exit_codes import CONFLICT, USAGE
from lockmaster.cli.founding import (
    CLOCK_SLACK_S,
    Place,
    check_clock,
    cluster_id_of,
    data_dir,
    explained,
    founder_of,
    place_options,
)
from lockmaster.cli.numbers import TERM, Seconds
from lockmaster.cli.refusals import Refused
from lockmaster.cli.serving import require_server_extra

ARCHIVES_MAX: Final = 64
REPORT_BYTES_MAX: Final = 4096
"""Of a termination message: what is above is cut off by the kubelet."""
STAMP: Final = "%Y%m%dT%H%M%SZ"
STAMP_LENGTH: Final = len("20260101T000000Z")
SUFFIX: Final = ".lma"
READ_BYTES: Final = 1 << 20


@click.group(hidden=True)
def job() -> None:
    """What the operator's Jobs run. Not for people: use backup, restore, recover."""


def report_option(command: Any) -> Any:
    """The option --report."""
    return click.option("--report", type=click.Path(dir_okay=False, path_type=Path), required=True)(command)


def own_archives(names: Iterable[str], name: str) -> list[str]:
    """Those of the LockBackup `name`, the newest first; files of any other name are nobody's business."""
    pattern = re.compile(rf"{re.escape(name)}-\d{{8}}T\d{{6}}Z{re.escape(SUFFIX)}")
    return sorted((found for found in names if pattern.fullmatch(found)), reverse=True)


def stamp_of(archive_name: str) -> str:
    """When an archive was due, as its name says."""
    return archive_name[-STAMP_LENGTH - len(SUFFIX) : -len(SUFFIX)]


def expired(names: Iterable[str], name: str, now: float, count: int, age_s: float) -> list[str]:
    """Archives of the LockBackup `name` that go: all but the newest `count`, and those older than `age_s` (0: no age).

    The newest one always stays. Ages are by the stamp in the name; a stamp that is no time is of no age.
    """
    own = own_archives(names, name)
    return [one for at, one in enumerate(own) if at and (at >= count or (age_s and now - _made(one, now) > age_s))]


def _made(name: str, otherwise: float) -> float:
    with contextlib.suppress(ValueError):
        return datetime.strptime(stamp_of(name), STAMP).replace(tzinfo=UTC).timestamp()
    return otherwise


@job.command("backup")
@click.option("--directory", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--name", required=True, help="Of the LockBackup.")
@click.option("--stamp", required=True, help="When it was due: YYYYMMDDTHHMMSSZ.")
@click.option("--count", type=click.IntRange(1, ARCHIVES_MAX), default=7, show_default=True)
@click.option("--age-s", type=Seconds(0, 10 * 365 * 86_400), default=0.0, help="0: no archive is too old.")
@click.option("--verify/--no-verify", default=True)
@click.option("--timeout", type=Seconds(1, 86_400), default=3600.0, show_default=True, metavar="SECONDS")
@report_option
@connection_options
def backup_command(
    target: Target,
    directory: Path,
    name: str,
    stamp: str,
    count: int,
    age_s: float,
    verify: bool,
    timeout: float,
    report: Path,
) -> None:
    """Write NAME-STAMP.lma into --directory, read it back, and only then remove what is not to be kept."""
    if not re.fullmatch(r"\d{8}T\d{6}Z", stamp) or not re.fullmatch(r"[-.a-z0-9]{1,200}", name):
        raise Refused("--stamp must be YYYYMMDDTHHMMSSZ, and --name an object's name", USAGE)
    file = directory / f"{name}-{stamp}{SUFFIX}"
    with archive_explained(file):
        directory.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            file.with_name(file.name + ".partial").unlink(missing_ok=True)  # of a pod that died: one runs at a time
            fetch_backup(target, file, timeout, False)
        head = archive.verify(file) if verify else archive.read_head(file)
        digest = _sha256(file)
        for old in expired(os.listdir(directory), name, time.time(), count, age_s):
            (directory / old).unlink(missing_ok=True)
        kept = own_archives(os.listdir(directory), name)
    manifest = head.manifest
    _report(
        report,
        {
            "cluster_id": manifest.cluster_id,
            "revision": manifest.revision,
            "level": manifest.level,
            "size": file.stat().st_size,
            "sha256": digest,
            "kept": [stamp_of(one) for one in kept[:ARCHIVES_MAX]],
        },
    )


def _sha256(file: Path) -> str:
    found = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(READ_BYTES):
            found.update(block)
    return found.hexdigest()


def _report(path: Path, facts: dict[str, Any]) -> None:
    text = json.dumps(facts, separators=(",", ":"))
    if len(text) > REPORT_BYTES_MAX:
        raise Refused(f"the report has {len(text)} bytes; at most {REPORT_BYTES_MAX} are read", USAGE)
    path.write_text(text)
    click.echo(text)


@job.command("restore")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), metavar="ARCHIVE")
@data_dir("The new cluster's first member; blank or not there yet, or begun by this very job.")
@place_options
@click.option("--cluster-id", required=True, help="32 hex digits for the new cluster.")
@click.option("--revision-jump", type=click.IntRange(0, 2**40), default=0)
@report_option
def restore_command(
    file: Path, data_dir: Path, place: Place, cluster_id: str, revision_jump: int, report: Path
) -> None:
    """Begin the cluster --cluster-id with what an archive holds; once it stands, only say so."""
    require_server_extra()
    from lockmaster.storage.files import RealFiles
    from lockmaster.storage.founding import archive_source, begun_at, found, member_of, second_above

    chosen = cluster_id_of(cluster_id)
    with explained():
        head = archive.verify(file)
        manifest = head.manifest
        known = member_of(RealFiles(), str(data_dir))
        if known is None or known[0] != chosen:
            check_clock(manifest.created_unix_s - CLOCK_SLACK_S, "the backup was made")
            # What decides the new revision is the wall clock, or a later second that lies above the jump.
            above = second_above(manifest.revision + revision_jump) if revision_jump else 0
            found(
                str(data_dir),
                archive_source(head, file, None),
                founder_of(place),
                unix_seconds=max(int(time.time()), above),
                cluster_id=chosen,
            )
        first = begun_at(str(data_dir))
    _report(
        report,
        {
            "cluster_id": cluster_id,
            "old_cluster_id": manifest.cluster_id,
            "old_revision": manifest.revision,
            "first_revision": first,
        },
    )


@job.command("look")
@data_dir("The volume of a member that is to join the new cluster.")
@click.option("--cluster-id", required=True, help="32 hex digits of the new cluster: its own directory may be there.")
@report_option
def look_command(data_dir: Path, cluster_id: str, report: Path) -> None:
    """Whether a directory is blank, or the new cluster's already; exit code 4 says whose it is. Changes nothing."""
    require_server_extra()
    from lockmaster.storage.files import RealFiles
    from lockmaster.storage.founding import refuse_unless_new

    with explained():
        blank = refuse_unless_new(RealFiles(), str(data_dir), cluster_id_of(cluster_id))
    _report(report, {"blank": blank})


@job.command("recover")
@data_dir("Data directory of the survivor, not running. The new cluster's first member takes its place.")
@place_options
@click.option("--cluster-id", required=True, help="32 hex digits for the new cluster.")
@click.option("--old-cluster-id", required=True, help="32 hex digits of the lost one.")
@click.option("--member-id", type=TERM, required=True, help="Of the survivor in the lost cluster.")
@report_option
def recover_command(
    data_dir: Path, place: Place, cluster_id: str, old_cluster_id: str, member_id: int, report: Path
) -> None:
    """Begin a new cluster beside the survivor's data, and let the two change places; the old data stays.

    DIR is the lost cluster's until DIR.next is whole; then DIR becomes DIR.before-ID and DIR.next DIR. A kill between
    the two renames is mended by the next run.
    """
    require_server_extra()
    from lockmaster.storage.files import RealFiles
    from lockmaster.storage.founding import member_of

    files, chosen, lost = RealFiles(), cluster_id_of(cluster_id), cluster_id_of(old_cluster_id)
    beside = data_dir.with_name(data_dir.name + ".next")
    aside = data_dir.with_name(f"{data_dir.name}.before-{cluster_id[:8]}")
    facts_file = data_dir.with_name(f"{data_dir.name}.recovered-{cluster_id[:8]}.json")
    with explained():
        here, next_one = member_of(files, str(data_dir)), member_of(files, str(beside))
        if here is None or here[0] != chosen:
            if next_one is None or next_one[0] != chosen:
                if here != (lost, member_id):
                    raise Refused(_not_the_survivor(data_dir, here, old_cluster_id, member_id), CONFLICT)
                if beside.exists():
                    shutil.rmtree(beside)
                _found_beside(data_dir, beside, facts_file, place, chosen)
            if data_dir.exists():
                data_dir.rename(aside)
                _sync(data_dir.parent)
            beside.rename(data_dir)
            _sync(data_dir.parent)
        facts = json.loads(facts_file.read_text())
    _report(report, {"cluster_id": cluster_id, **facts})


def _not_the_survivor(path: Path, here: tuple[bytes, int] | None, old_cluster_id: str, member_id: int) -> str:
    what = f"member {here[1]} of cluster {here[0].hex()}" if here is not None else "blank"
    return f"{path}: is {what}, not member {member_id} of cluster {old_cluster_id}; nothing was changed"


def _found_beside(survivor: Path, beside: Path, facts_file: Path, place: Place, cluster_id: bytes) -> None:
    from lockmaster.storage.directory import DataDirectory
    from lockmaster.storage.founding import NoRoom, found, refuse_without_room, second_above
    from lockmaster.storage.survivor import examine, source_of

    directory = DataDirectory.open(survivor, create=False)
    try:
        facts = examine(directory)
        check_clock(second_above(facts.revision) - 1, "the survivor's revision was reached")
        source = source_of(directory, facts)
        try:
            refuse_without_room(str(beside), source.bytes_total)
        except NoRoom as error:
            # No other try finds more room: for a person (exit code 4), who makes the volume larger.
            raise Refused(f"the volume has no room for a second copy of the data: {error}", CONFLICT) from None
        # Before the new directory has its identity: whoever finds that finds these.
        facts_file.write_text(json.dumps({"last_index": facts.last_index, "last_term": facts.last_term}))
        _sync(facts_file)
        _sync(facts_file.parent)
        found(str(beside), source, founder_of(place), unix_seconds=int(time.time()), cluster_id=cluster_id)
    finally:
        directory.close()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
