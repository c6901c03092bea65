"""Records: values that are compared, hashed and built, and have no room for anything else."""

import pytest
from lockmaster_raft.entry import EntryKind, make_entry
from lockmaster_raft.ids import Index, Nanos, NodeId, Term
from lockmaster_raft.messages import Header, TimeoutNow


def _header(term: int) -> Header:
    return Header(b"c" * 16, NodeId(1), NodeId(2), Term(term), 1, 1)


def test_records_are_equal_by_value_and_hash_alike() -> None:
    assert TimeoutNow(_header(1)) == TimeoutNow(_header(1))
    assert TimeoutNow(_header(1)) != TimeoutNow(_header(2))
    assert len({_header(1), _header(1), _header(2)}) == 2


def test_records_of_different_kinds_differ_whatever_they_hold() -> None:
    other: object = _header(1)
    assert TimeoutNow(_header(1)) != other


def test_a_record_takes_no_field_that_it_does_not_declare() -> None:
    entry = make_entry(Index(1), Term(1), EntryKind.DATA, Nanos(0), b"x")
    with pytest.raises(AttributeError):
        setattr(entry, "colour", "red")  # noqa: B010
