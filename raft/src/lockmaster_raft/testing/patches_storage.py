"""Mutants of the journal and the guard file, hunted by exploring crash states on the recording file layer."""

from __future__ import annotations

from typing import Final

from lockmaster_raft.testing.mutants import PYTEST, STORAGE, Edit, Mutant

BOOT_RULES: Final = PYTEST + "tests/service/storage/test_boot_rules.py"
CRASH_STATES: Final = PYTEST + "tests/service/storage/test_crash_states.py tests/service/storage/test_boot_rules.py"

STORAGE_MUTANTS: Final = (
    Mutant(
        "vote_in_one_guard_slot_only",
        "service.md §5, guard",
        (
            Edit(
                STORAGE + "guard.py",
                "        self._one(state)\n        self._one(state)\n",
                "        self._one(state)\n",
            ),
        ),
        CRASH_STATES,
    ),
    Mutant(
        "guard_mark_by_index_instead_of_by_frame",
        "service.md §5, guard",
        (
            Edit(
                STORAGE + "journal.py",
                "            self._guard.write_mark(self._written)\n            self._files.write(",
                "            self._guard.write_mark(self._begun_last)\n            self._files.write(",
            ),
        ),
        CRASH_STATES,
    ),
    Mutant(
        "guard_mark_ahead_of_its_frame",
        "row 68",
        (
            Edit(
                STORAGE + "journal.py",
                "            self._guard.write_mark(self._written)\n            self._files.write(",
                "            self._guard.write_mark(number)\n            self._files.write(",
            ),
        ),
        CRASH_STATES,
    ),
    Mutant(
        "superseded_entry_read_back_after_restart",
        "service.md §5, journal",
        (
            Edit(
                STORAGE + "journal.py",
                "            parts.append(encode_truncate(persist.truncate_from))\n",
                "            parts.append(b'')\n",
            ),
        ),
        CRASH_STATES,
    ),
    Mutant(
        "missing_tail_accepted",
        "row 62",
        (Edit(STORAGE + "boot.py", "    if found.last_number < mark:\n", "    if found.last_number < 0:\n"),),
        CRASH_STATES,
    ),
    Mutant(
        "damage_before_valid_frames_taken_for_the_end",
        "row 70",
        (
            Edit(
                STORAGE + "boot.py",
                "    if later is not None:\n        raise CorruptLog(",
                "    if later is None and at < 0:\n        raise CorruptLog(",
            ),
        ),
        CRASH_STATES,
    ),
    Mutant(
        "state_stored_by_index_while_its_entry_is_being_written",
        "found here, seed 7050 of the registers",
        (
            Edit(
                STORAGE + "journal.py",
                "        return Index(min((write.kept for write in self._pending), default=self._index.last_index))\n",
                "        return self._index.last_index\n",
            ),
        ),
        BOOT_RULES,
    ),
)
