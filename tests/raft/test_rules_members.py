"""Changes of members at their edges: what `make mutation` showed that no test held (docs/mutation.md)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lockmaster_raft import members
from lockmaster_raft.config import SECOND, RaftConfig
from lockmaster_raft.core import Core
from lockmaster_raft.events import RemoveMember
from lockmaster_raft.ids import Index, Nanos, NodeId
from lockmaster_raft.messages import AppendEntries
from lockmaster_raft.progress import Progress
from lockmaster_raft.ready import Refused

from .rig import entries
from .shapes import CALM, add, shaped, write
from .test_pipeline import leader

TIMEOUT = SECOND
ROUNDS = RaftConfig(election_timeout_ns=TIMEOUT, caught_up_rounds_max=2)


@pytest.mark.parametrize(("size", "refused"), [(0, False), (261, False), (262, True), (300, True)])
def test_a_client_address_has_at_most_261_bytes(size: int, refused: bool) -> None:
    cluster = shaped(2, 1)
    cluster.step(1, replace(add(4, promote=False), client_address="a" * size))
    answers = [a for a in cluster.proposals if isinstance(a, Refused)]
    assert bool(answers) is refused
    if refused:
        assert str(answers[0].error) == f"an address of m4 has 1 to 261 bytes, not 4 and {size}"


def end_round(core: Core, p: Progress, took_ns: int) -> None:
    """The learner reaches the round's target after so long; meanwhile another entry was appended."""
    core.begin(Nanos(core.now + took_ns), 1)
    core.append(list(entries(core.log.last_index + 1, 1)))
    p.match = Index(p.catch_target)
    members.note_learner_match(core, p)


def learning(log: int = 10) -> tuple[Core, Progress]:
    core, p = leader(ROUNDS, log=log)
    p.catch_target, p.catch_started = core.log.last_index, core.now
    return core, p


def test_4_2_1_a_round_shorter_than_an_election_timeout_is_caught_up() -> None:
    core, p = learning()
    end_round(core, p, TIMEOUT)
    assert (p.caught_up, p.catch_rounds, p.catch_target) == (False, 1, core.log.last_index)
    end_round(core, p, TIMEOUT - 1)
    assert p.caught_up
    assert core.alarms == []


def test_a_learner_that_needs_too_many_rounds_is_told_once_with_how_long_the_last_took() -> None:
    core, p = learning()
    for took in (3 * TIMEOUT, 2 * TIMEOUT, TIMEOUT):
        end_round(core, p, took)
    text = f"member 2 did not catch up within 2 rounds; the last took {2 * TIMEOUT} ns"
    assert [(a.code, a.text) for a in core.alarms] == [("learner_slow", text)]
    assert not p.caught_up


def test_a_member_that_keeps_up_is_sent_the_entry_of_its_own_removal_however_long_the_log_is() -> None:
    """Nothing else is sent to it afterwards but Removed, which may be lost."""
    cluster = shaped(3, 0, replace(CALM, batch_entries_max=4))
    removal = write(cluster, 20) + 1
    before = len(cluster.sends)
    cluster.step(1, RemoveMember(6, NodeId(3)))
    (told,) = [s.message for s in cluster.sends[before:] if s.to == 3 and isinstance(s.message, AppendEntries)]
    assert [e.index for e in told.entries] == [removal]
