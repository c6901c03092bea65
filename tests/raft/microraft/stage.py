"""What the conformance rows share: groups of a stated size, partitions, writes and what became of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lockmaster_raft.config import SECOND, RaftConfig
from lockmaster_raft.entry import EntryKind
from lockmaster_raft.errors import ProposalRefused
from lockmaster_raft.events import Event, Propose
from lockmaster_raft.ids import NodeId
from lockmaster_raft.membership import Member
from lockmaster_raft.messages import Message
from lockmaster_raft.node import Node
from lockmaster_raft.ready import Appended, Refused, Role

from ..rig import Cluster, base, configuration
from ..shapes import join

STEP = SECOND // 20
"""Long enough for a write to be committed everywhere; shorter than a heartbeat interval."""


def group(voters: int = 3, learners: int = 0, config: RaftConfig | None = None) -> Cluster:
    """A group that has elected its leader; members 1 … voters vote, those after them learn."""
    ids = tuple(range(1, voters + 1))
    conf = configuration(ids, tuple(range(voters + 1, voters + learners + 1)), full_min=min(2, voters))
    waiting = [replace(m, promote_when_caught_up=False) for m in conf.members]
    conf = replace(conf, members=tuple(waiting))
    cluster = Cluster(config, blank=True)
    for number in range(1, voters + learners + 1):
        cluster.boot(number, base(conf))
    cluster.run(4 * SECOND)
    assert cluster.leaders()
    return cluster


def grown(count: int, config: RaftConfig | None = None, *, full_min: int = 2) -> Cluster:
    """Genesis of one, which leads; the others joined one by one and made voters."""
    cluster = Cluster(config, full_min=full_min)
    cluster.run(SECOND)
    for number in range(2, count + 1):
        join(cluster, number)
    return cluster


def followers(cluster: Cluster) -> list[int]:
    """Whoever does not lead and is up, ascending."""
    return [n for n in sorted(cluster.nodes) if n != cluster.leader and n not in cluster.down]


def apart(cluster: Cluster, *numbers: int) -> None:
    """These and the others hear nothing of each other."""
    cluster.cut = lambda sender, receiver, message: (sender in numbers) != (receiver in numbers)


def drop(cluster: Cluster, *kinds: type[Message], to: Callable[[int], bool] = lambda number: True) -> None:
    """Messages of these kinds to those members are lost."""
    cluster.cut = lambda sender, receiver, message: isinstance(message, kinds) and to(receiver)


def heal(cluster: Cluster) -> None:
    cluster.cut = lambda sender, receiver, message: False


def propose(cluster: Cluster, payload: bytes = b"x", at: int = 0) -> int:
    """Appended at the leader (or `at`): its index."""
    cluster.step(at or cluster.leader, Propose(1, payload))
    answer = cluster.proposals[-1]
    assert isinstance(answer, Appended), answer
    return answer.index


def write(cluster: Cluster, payload: bytes = b"x", at: int = 0) -> int:
    """The same, and committed."""
    index, lead = propose(cluster, payload, at), at or cluster.leader
    cluster.run(STEP)
    assert cluster.nodes[lead].commit_index >= index
    return index


def error_of(cluster: Cluster, event: Event, at: int = 0) -> ProposalRefused | None:
    """Why the leader (or `at`) refuses it, or None."""
    before = len(cluster.proposals)
    cluster.step(at or cluster.leader, event)
    answers = cluster.proposals[before:]
    return answers[0].error if answers and isinstance(answers[0], Refused) else None


def applied(cluster: Cluster, number: int) -> list[bytes]:
    """Payloads that this member has applied, in order."""
    return [e.payload for e in cluster.applied[number] if e.kind is EntryKind.DATA]


def same_state(cluster: Cluster) -> None:
    """Every member that is up has the same log committed, and has applied the same."""
    nodes = {n: node for n, node in cluster.nodes.items() if n not in cluster.down}
    commits = {node.commit_index for node in nodes.values()}
    assert len(commits) == 1, {n: node.commit_index for n, node in nodes.items()}
    ends = {n: cluster.stores[n].log[-1:] for n in nodes}
    assert len({str(end) for end in ends.values()}) == 1, ends


def at(cluster: Cluster, number: int = 0) -> Node:
    """The leader's node, or that member's."""
    return cluster.nodes[number or cluster.leader]


def known_leader(cluster: Cluster, *numbers: int) -> set[int]:
    """Whom these members believe to lead."""
    return {cluster.nodes[n].leader_id for n in numbers}


def voters(cluster: Cluster, number: int = 0) -> tuple[NodeId, ...]:
    return at(cluster, number).committed_configuration.voter_ids


def is_learner(cluster: Cluster, number: int) -> bool:
    return cluster.nodes[number].role is Role.LEARNER


def record(cluster: Cluster, number: int) -> Member:
    """The member's record as the leader has it, made a voter."""
    member = at(cluster).configuration.member(NodeId(number))
    assert member is not None
    return replace(member, voter=True)
