"""service.md §5, rule by rule: mark, amnesia, supersede, segments, BASE, on the recording layer."""

from __future__ import annotations

import pytest
from lockmaster.storage.errors import Amnesia, CorruptLog, StorageFailed, exit_code
from lockmaster.storage.frame import FRAME_MAGIC, encode_entries, encode_frame, parse_frame
from lockmaster.storage.guard import SLOT_DISTANCE, decode_slot
from lockmaster.storage.journal import Journal
from lockmaster.storage.recording import RecordingFiles
from lockmaster_raft.errors import InvariantViolation
from lockmaster_raft.ids import Index, NodeId, Term
from lockmaster_raft.ready import HardState, Persist

from . import journal_model as jm


def _new(*writes: Persist, close: bool = True) -> tuple[RecordingFiles, jm.Model]:
    files, model = RecordingFiles(), jm.Model()
    jm.make(files)
    _, journal = jm.boot(files, 1)
    for write in writes:
        _do(journal, write)
        model = model.after(write)
    if close:
        journal.close()
    return files, model


def _do(journal: Journal, write: Persist) -> None:
    pending = journal.begin(write)
    pending.run()
    journal.finish(pending)


def _segments(files: RecordingFiles) -> list[str]:
    return [f"{jm.JOURNAL}/{name}" for name in files.list_dir(jm.JOURNAL)]


FOUR = (jm.persist(hard=(1, 1), base=jm.base(1, 1)), *(jm.persist(jm.entry(i, 1)) for i in (2, 3, 4)))


def test_reads_back_what_was_written_across_boots() -> None:
    files, model = _new(*jm.WORKLOAD)
    for nonce in (2, 3, 4):
        guard, journal = jm.boot(files, nonce)
        assert jm.held(guard, journal) == model
        journal.close()


def test_a_boot_starts_a_new_segment_and_goes_on_counting_frames() -> None:
    files, _ = _new(*FOUR)
    _, journal = jm.boot(files, 2)
    assert len(_segments(files)) == 2
    assert journal.last_number == 4
    assert journal.begin(jm.persist(jm.entry(5, 1))).number == 5


def test_a_journal_cut_below_the_mark_is_amnesia_with_its_own_exit_code() -> None:
    files, _ = _new(*FOUR)
    files.names[_segments(files)[0]].data[-jm.SEGMENT_BYTES :] = bytes(jm.SEGMENT_BYTES)
    with pytest.raises(StorageFailed) as refused:
        jm.boot(files, 2)
    assert isinstance(refused.value, Amnesia)
    assert exit_code(refused.value) == 76


def test_a_deleted_last_segment_is_amnesia() -> None:
    files, _ = _new(*FOUR)
    files.unlink(_segments(files)[0])
    with pytest.raises(Amnesia):
        jm.boot(files, 2)


def test_a_damaged_last_frame_below_the_mark_is_corruption_with_file_and_offset() -> None:
    files, _ = _new(*FOUR)
    path = _segments(files)[0]
    at = bytes(files.names[path].data).rindex(FRAME_MAGIC)
    files.names[path].data[at + 60] ^= 1
    with pytest.raises(CorruptLog, match=rf"{path}: offset {at}: frame 4"):
        jm.boot(files, 2)


def test_an_invalid_frame_above_the_mark_is_the_end() -> None:
    files, model = _new(*FOUR, close=False)
    path = _segments(files)[0]
    at = bytes(files.names[path].data).rindex(FRAME_MAGIC)
    files.names[path].data[at + 60] ^= 1
    found = jm.held(*jm.boot(files, 2))
    assert found.log == {i: e for i, e in model.log.items() if i < 4}


def test_an_invalid_frame_with_a_valid_one_after_it_is_corruption_whatever_the_mark() -> None:
    files, _ = _new(FOUR[0], close=False)
    guard, journal = jm.boot(files, 2)
    early = bytes(files.names["/d/guard"].data)
    for write in FOUR[1:]:
        _do(journal, write)
    files.names["/d/guard"].data[:] = early
    assert guard.state.mark == 3
    path = _segments(files)[-1]
    data = bytes(files.names[path].data)
    third = data.rindex(FRAME_MAGIC, 0, data.rindex(FRAME_MAGIC))
    files.names[path].data[third + 60] ^= 1
    with pytest.raises(CorruptLog, match=f"offset {third}: frame 3 is damaged; a valid frame follows"):
        jm.boot(files, 3)


def test_a_payload_that_looks_like_a_frame_does_not_count_as_one() -> None:
    """A client may store any bytes: without the segment's id they are not a frame."""
    fake, _ = encode_frame(FRAME_MAGIC, 7, 1234, 0, b"")
    files, _ = _new(*FOUR, close=False)
    path = _segments(files)[0]
    at = bytes(files.names[path].data).rindex(FRAME_MAGIC)
    files.names[path].data[at] ^= 1
    files.names[path].data[at + 512 : at + 512 + len(fake)] = fake
    assert max(jm.held(*jm.boot(files, 2)).log) == 3


def test_a_missing_segment_in_the_middle_is_corruption() -> None:
    files, _ = _new(*FOUR)
    for nonce, index in ((2, 5), (3, 6)):
        _, journal = jm.boot(files, nonce)
        _do(journal, jm.persist(jm.entry(index, 1)))
        journal.close()
    files.unlink(_segments(files)[1])
    with pytest.raises(CorruptLog, match="missing"):
        jm.boot(files, 9)


def test_a_missing_segment_with_an_entry_above_base_is_corruption_even_if_an_older_one_is_there() -> None:
    files, _ = _new(*FOUR)
    _, journal = jm.boot(files, 2)
    _do(journal, jm.persist(jm.entry(5, 1)))
    journal.close()
    _, journal = jm.boot(files, 3)
    journal.close()
    files.unlink(_segments(files)[1])
    with pytest.raises(CorruptLog, match="missing"):
        jm.boot(files, 4)


def test_a_deleted_segment_that_came_back_is_ignored_and_removed() -> None:
    files, _ = _new(*FOUR)
    _, journal = jm.boot(files, 2)
    _do(journal, jm.persist(jm.entry(5, 1)))
    journal.close()
    _, journal = jm.boot(files, 3)
    oldest, content = _segments(files)[0], files.names[_segments(files)[0]]
    _do(journal, jm.persist(jm.entry(6, 1), base=jm.base(5, 1)))
    journal.close()
    assert len(_segments(files)) == 1
    files.names[oldest] = content
    assert list(jm.held(*jm.boot(files, 4)).log) == [6]
    assert oldest not in files.names


def test_a_segment_goes_only_when_every_entry_in_it_is_under_the_synced_base() -> None:
    files, _ = _new(*FOUR)
    _, journal = jm.boot(files, 2)
    _do(journal, jm.persist(jm.entry(5, 1), base=jm.base(3, 1)))
    assert len(_segments(files)) == 2
    write = journal.begin(jm.persist(base=jm.base(4, 1)))
    assert len(_segments(files)) == 2
    write.run()
    assert len(_segments(files)) == 2
    journal.finish(write)
    assert len(_segments(files)) == 1


def test_entries_of_deleted_segments_between_two_bases_are_not_missed() -> None:
    files, model = _new(*FOUR)
    for nonce, index in ((2, 5), (3, 6), (4, 7)):
        _, journal = jm.boot(files, nonce)
        write = jm.persist(jm.entry(index, 1), base=jm.base(index - 1, 1))
        _do(journal, write)
        model = model.after(write)
        journal.close()
    assert jm.held(*jm.boot(files, 9)) == model


def test_superseding_what_is_committed_stops_the_process() -> None:
    files, _ = _new(*FOUR)
    _, journal = jm.boot(files, 2)
    journal.protect(Index(3))
    with pytest.raises(InvariantViolation, match="committed"):
        journal.begin(jm.persist(truncate=3))
    with pytest.raises(InvariantViolation, match="committed"):
        journal.begin(jm.persist(jm.entry(1, 9)))


def test_superseding_without_truncation_needs_a_higher_term() -> None:
    files, _ = _new(*FOUR)
    _, journal = jm.boot(files, 2)
    with pytest.raises(InvariantViolation, match="supersede"):
        journal.begin(jm.persist(jm.entry(4, 1)))
    _do(journal, jm.persist(jm.entry(4, 2), hard=(2, 0)))
    assert journal.term(Index(4)) == 2


def test_5_3_a_truncation_may_bring_back_a_lower_term() -> None:
    """A leader of term 4 may replicate an entry of term 2 over a deposed leader's of term 3."""
    files, _ = _new(*FOUR, jm.persist(jm.entry(5, 3), hard=(4, 0)))
    guard, journal = jm.boot(files, 2)
    _do(journal, jm.persist(jm.entry(5, 2), jm.entry(6, 4), truncate=5))
    expected = jm.held(guard, journal)
    journal.close()
    assert expected.log[5].term == 2
    assert jm.held(*jm.boot(files, 3)) == expected


def test_a_gap_in_appended_entries_is_refused() -> None:
    files, _ = _new(*FOUR)
    _, journal = jm.boot(files, 2)
    with pytest.raises(InvariantViolation, match="append of 6 after 4"):
        journal.begin(jm.persist(jm.entry(6, 1)))


def test_a_base_that_the_log_does_not_hold_empties_it() -> None:
    files, _ = _new(*FOUR, jm.persist(base=jm.base(3, 2), hard=(2, 0)))
    _, journal = jm.boot(files, 2)
    assert (journal.base.index, journal.last_index, journal.term(Index(4))) == (3, 3, None)


def test_a_base_that_the_log_holds_keeps_what_is_above() -> None:
    files, _ = _new(*FOUR, jm.persist(base=jm.base(3, 1)))
    _, journal = jm.boot(files, 2)
    assert (journal.base.index, journal.last_index, journal.term(Index(3))) == (3, 4, 1)


def test_hard_state_is_in_both_slots_when_the_call_returns() -> None:
    files, _ = _new(jm.persist(hard=(7, 3)))
    guard = bytes(files.names["/d/guard"].data)
    slots = [decode_slot(guard[at : at + 512]) for at in (0, SLOT_DISTANCE)]
    assert [slot[1].hard_state for slot in slots if slot] == [HardState(Term(7), NodeId(3))] * 2


def test_no_valid_slot_refuses() -> None:
    files, _ = _new(*FOUR)
    for at in (0, SLOT_DISTANCE):
        files.names["/d/guard"].data[at + 20] ^= 1
    with pytest.raises(CorruptLog, match="/d/guard: no valid slot"):
        jm.boot(files, 2)


def test_several_writes_may_be_begun_before_the_first_is_run() -> None:
    files, model = _new(*FOUR)
    guard, journal = jm.boot(files, 2)
    writes = [jm.persist(jm.entry(5, 1, 3000)), jm.persist(jm.entry(6, 1, 6000)), jm.persist(jm.entry(6, 2))]
    begun = [journal.begin(write) for write in writes]
    for pending in begun:
        pending.run()
        journal.finish(pending)
    for write in writes:
        model = model.after(write)
    assert jm.held(guard, journal) == model
    journal.close()
    assert jm.held(*jm.boot(files, 3)) == model


def test_what_a_begun_write_supersedes_is_not_durable_any_more() -> None:
    """Seed 7050: entries 3 and 4 of term 1 are on the disk, but the 3 that is committed and applied is of term 2."""
    files, _ = _new(*FOUR)
    _, journal = jm.boot(files, 2)
    cases = ((jm.persist(jm.entry(3, 2)), 2), (jm.persist(truncate=3), 2), (jm.persist(base=jm.base(9, 3)), 1))
    for write, durable in cases:
        pending = journal.begin(write)
        assert journal.durable_index == durable
        pending.run()
        journal.finish(pending)
        assert journal.durable_index == journal.last_index


def test_entries_are_cut_at_the_byte_limit_with_at_least_one() -> None:
    files, _ = _new(*FOUR, jm.persist(jm.entry(5, 1), jm.entry(6, 1), jm.entry(7, 1)))
    _, journal = jm.boot(files, 2)
    assert [e.index for e in journal.entries(Index(3), Index(8), 1)] == [3]
    assert [e.index for e in journal.entries(Index(4), Index(7), 1 << 20)] == [4, 5, 6]


def test_a_frame_is_read_alone_and_bound_to_its_segment_and_predecessor() -> None:
    parts: list[bytes] = []
    encode_entries([jm.entry(1, 1)], parts)
    data, crc = encode_frame(FRAME_MAGIC, 5, 11, 99, b"".join(parts))
    frame = parse_frame(data, 0)
    assert frame is not None
    assert (frame.number, frame.segment_id, frame.previous_crc, frame.crc, frame.size) == (5, 11, 99, crc, 512)
    assert parse_frame(data[:-1].replace(b"1/1", b"1/2"), 0) is None
