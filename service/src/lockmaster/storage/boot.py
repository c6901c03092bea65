"""Reading the journal at boot: what is the end, what is damage, what is amnesia (service.md §5).

The rule. In the last segment an invalid frame is the end if and only if its number is above the mark and no valid
frame starts at a later boundary; anything else is corruption, told with file and offset. A journal that ends in zeros
or at the end of its last file below the mark is amnesia.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from lockmaster_raft.entry import Entry

from lockmaster.storage.errors import Amnesia, CorruptLog
from lockmaster.storage.files import Files
from lockmaster.storage.frame import SECTOR, Record
from lockmaster.storage.log_index import LogIndex
from lockmaster.storage.segment import (
    Opened,
    later_frame,
    next_frame,
    read_segment,
    records_at,
    segment_name,
    segment_numbers,
)

SEGMENTS_MAX: Final = 1 << 20
"""More segment files than this is not a journal of ours."""


@dataclass(slots=True)
class BootedJournal:
    """What the journal holds, and where its chain ends."""

    index: LogIndex = field(default_factory=LogIndex)
    last_number: int = 0
    last_segment: int = 0
    end: int = 0
    crc: int = 0
    entry_max: dict[int, int] = field(default_factory=dict)
    """Per segment: the highest index of any entry in it, superseded ones too."""
    sizes: dict[int, int] = field(default_factory=dict)
    """Per segment: bytes up to its end."""
    leftovers: list[str] = field(default_factory=list)
    """Files that hold nothing that counts, to be removed: segments never opened, or wholly under BASE."""


def boot(files: Files, directory: str, mark: int) -> BootedJournal:
    """Read all segments; raises CorruptLog or Amnesia. Changes nothing but what fsync makes durable."""
    found = BootedJournal()
    numbers, gap = _contiguous(segment_numbers(files.list_dir(directory)))
    opened = _last_opened(files, directory, numbers, mark, found)
    while opened is not None:  # ends: each turn reads a later segment
        number = opened.segment
        after = None
        if number + 1 <= numbers[-1] and f"{directory}/{segment_name(number + 1)}" not in found.leftovers:
            after = _must_open(files, directory, number + 1)
        _read(files, opened, after, mark, found)
        opened = after
    if found.last_number < mark:
        raise Amnesia(f"{directory}: ends with frame {found.last_number}; frame {mark} was acknowledged and is gone")
    _check_whole(directory, found)
    found.leftovers += [f"{directory}/{segment_name(number)}" for number in gap]
    return found


def _contiguous(numbers: list[int]) -> tuple[list[int], list[int]]:
    """(the longest contiguous run at the end, the numbers before it).

    A deletion from the oldest end whose directory sync was lost may bring names back; they are under BASE, which
    `_check_whole` proves.
    """
    start = len(numbers) - 1
    while start > 0 and numbers[start - 1] == numbers[start] - 1:
        start -= 1
    start = max(start, 0)
    return numbers[start:], numbers[:start]


def _must_open(files: Files, directory: str, number: int) -> Opened:
    path = f"{directory}/{segment_name(number)}"
    opened = read_segment(files, path, number)
    if not isinstance(opened, Opened):
        raise CorruptLog(f"{path}: offset 0: the segment's opening is damaged")
    return opened


def _last_opened(files: Files, directory: str, numbers: list[int], mark: int, found: BootedJournal) -> Opened | None:
    """The oldest segment; notes in `found.leftovers` the newest ones if they were preallocated but never opened.

    An opening is synced before the first frame, so a segment without a valid opening holds no frame; one that does
    hold a frame has a damaged opening. The oldest segment may lack an opening only before the first mark.
    """
    for number in reversed(numbers):
        path = f"{directory}/{segment_name(number)}"
        opened = read_segment(files, path, number)
        if isinstance(opened, Opened):
            break
        if later_frame(opened, 0, None) is not None or (number == numbers[0] and mark and any(opened)):
            raise CorruptLog(f"{path}: offset 0: the segment's opening is damaged")
        found.leftovers.append(path)
    if len(found.leftovers) == len(numbers):
        return None
    return _must_open(files, directory, numbers[0])


def _read(files: Files, opened: Opened, after: Opened | None, mark: int, found: BootedJournal) -> None:
    header = opened.header
    if found.last_segment and header.first_number != found.last_number + 1:
        raise CorruptLog(
            f"{opened.path}: offset 0: starts with frame {header.first_number}, not {found.last_number + 1}"
        )
    if not found.last_segment:
        _take(opened, 0, opened.records, found)
        found.index.open_at(header.last_index)
    if after is None:
        # kill -9 may leave the last frame in the page cache only: it counts once it is on the disk.
        files.sync_file(opened.path)
    at, crc, number = opened.end, opened.crc, header.first_number - 1
    while after is None or at < after.header.previous_end:  # ends: `at` rises
        frame = next_frame(opened, at, number + 1, crc)
        if frame is None:
            if after is not None:
                raise CorruptLog(f"{opened.path}: offset {at}: frame {number + 1} is damaged")
            _check_end(opened, at, number + 1, mark)
            break
        _take(opened, at, records_at(opened.path, at, frame), found)
        at, crc, number = at + frame.size, frame.crc, frame.number
    if after is not None and (at != after.header.previous_end or crc != after.header.previous_crc):
        raise CorruptLog(f"{opened.path}: offset {at}: does not end where {after.path} says")
    found.last_number, found.last_segment, found.end, found.crc = number, opened.segment, at, crc
    found.sizes[opened.segment] = at


def _take(opened: Opened, at: int, records: list[Record], found: BootedJournal) -> None:
    try:
        found.index.apply(records, opened.segment, at)
    except CorruptLog as error:
        raise CorruptLog(f"{opened.path}: offset {at}: {error}") from error
    highest = max((r.index for r in records if isinstance(r, Entry)), default=0)
    found.entry_max[opened.segment] = max(found.entry_max.get(opened.segment, 0), highest)


def _check_end(opened: Opened, at: int, number: int, mark: int) -> None:
    later = later_frame(opened.data, at, opened.header.segment_id)
    if later is not None:
        raise CorruptLog(f"{opened.path}: offset {at}: frame {number} is damaged; a valid frame follows at {later}")
    if number <= mark and any(opened.data[at : at + SECTOR]):
        raise CorruptLog(f"{opened.path}: offset {at}: frame {number} is damaged; it was complete")


def _check_whole(directory: str, found: BootedJournal) -> None:
    index = found.index
    if index.last_index > index.base.index and index.first_present > index.base.index + 1:
        missing = f"{index.base.index + 1} … {index.first_present - 1}"
        raise CorruptLog(f"{directory}: entries {missing} are missing: a segment file is gone")
