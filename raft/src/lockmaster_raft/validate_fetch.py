"""Range checks of the messages by which immutable pieces are offered and fetched (fetch of ranges, sources)."""

from __future__ import annotations

from typing import Final, assert_never

from lockmaster_raft.ids import INDEX_MAX
from lockmaster_raft.messages import CatchUp, CatchUpReply, FetchRange, FetchRangeReply, Retain, SourceReport

ANCHORS_MAX: Final = 1025
"""Most anchors of one CatchUp: 1024 pieces and the joint."""
SOURCES_MAX: Final = 32
RANGE_ENTRIES_MAX: Final = 4096
"""Most entries of one FetchRangeReply, and of one piece: two anchors are no further apart."""
FetchMessage = Retain | SourceReport | CatchUp | CatchUpReply | FetchRange | FetchRangeReply


def _in_range(*numbers: int) -> bool:
    return min(numbers) >= 0 and max(numbers) <= INDEX_MAX


def is_sound_fetch(m: FetchMessage, time_max: int) -> bool:
    """Whether every number is in range and fits the others of the message; no stamp above `time_max`."""
    match m:
        case Retain():
            return _in_range(m.floor, m.snapshot_at)
        case SourceReport():
            ok = _in_range(m.log_first, m.snapshot_index, m.snapshot_term) and len(m.manifest) == 32
            return ok and m.snapshot_term <= m.header.term
        case CatchUp():
            return _is_sound_catch_up(m)
        case CatchUpReply():
            return _in_range(m.stream_epoch, m.match_index, m.applied, m.log_first, m.free_bytes)
        case FetchRange():
            ok = _in_range(m.prev_index, m.prev_term, m.last_index, m.last_term)
            return ok and m.prev_index < m.last_index and m.prev_term <= m.last_term
        case FetchRangeReply():
            return _is_sound_range(m, time_max)
        case _:
            assert_never(m)


def _is_sound_catch_up(m: CatchUp) -> bool:
    """Anchors rise in index, a piece at a time, never fall in term, none above the sender's; somebody is named."""
    if not 0 <= m.stream_epoch <= INDEX_MAX or not 2 <= len(m.anchors) <= ANCHORS_MAX:
        return False
    if not 1 <= len(m.sources) <= SOURCES_MAX or not _in_range(*m.sources):
        return False
    before_index, before_term = m.anchors[0][0] - 1, 0
    for index, term in m.anchors:
        if not 0 <= index <= INDEX_MAX or not before_term <= term <= m.header.term:
            return False
        if not 1 <= index - before_index <= RANGE_ENTRIES_MAX:
            return False
        before_index, before_term = index, term
    return True


def _is_sound_range(m: FetchRangeReply, time_max: int) -> bool:
    """Contiguous after prev_index, no further than last_index, terms rising, none above the sender's."""
    if not _in_range(m.prev_index, m.last_index) or len(m.entries) > RANGE_ENTRIES_MAX:
        return False
    index: int = m.prev_index
    term = 0
    for entry in m.entries:
        index += 1
        if entry.index != index or index > m.last_index or not term <= entry.term <= m.header.term:
            return False
        if not 0 <= entry.leader_time <= time_max:
            return False
        term = entry.term
    return True
