"""What becomes of an entry that can't be applied (row 55): applying ends there, nothing after it is taken."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from lockmaster.server.applying import Applier
from lockmaster.server.waiting import AdminCalls
from lockmaster_raft.entry import EntryKind, make_entry
from lockmaster_raft.ids import Index, Nanos, Term


class Machine:
    """Fails at one entry."""

    def __init__(self) -> None:
        self.applied = 4

    def apply(self, entry: Any, commands: Any) -> Any:
        if entry.index == 5:
            raise ValueError("entry 5 can't be applied")
        raise AssertionError(f"entry {entry.index} was applied after one that failed")


def test_row_55_an_entry_that_cannot_be_applied_is_not_passed_over() -> None:
    applier = Applier(cast("Any", None), cast("Any", Machine()), [], AdminCalls())
    applier.extend([make_entry(Index(n), Term(1), EntryKind.NOOP, Nanos(0), b"") for n in (5, 6)])
    with pytest.raises(ValueError, match="entry 5"):
        applier.run(cast("Any", SimpleNamespace()))
    assert (applier.applied, applier.waiting) == (4, 1)
