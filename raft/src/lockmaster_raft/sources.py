"""Who can serve what: the leader's word on what is needed, the members' on what they hold (raft.md §2, §3).

Theory of operation. With its heartbeat duties, while some member lags, the leader tells the others from where on that
one lacks the log (Retain.floor), and they keep theirs from there on as it does, within their own budget: so there are
sources for it. At the moment when the leader's state is cut for a snapshot that somebody waits for, it names the index
(Retain.snapshot_at). A full member whose state has not passed it pauses applying there, for no longer than its own cut
takes, and makes a snapshot at the very same index: chunks of one index are equal on every full member, so their
manifests are. Each tells the leader of its snapshot by the manifest's digest (SourceReport), and the leader names those
with its own manifest as sources, in an InstallSnapshot like the first. The leader itself is one while there are fewer
than two others, and the one to fall back on in any case. A new leader that has the same snapshot goes on with it.

Laws: a member is named as a source only by a report of this term with the leader's own manifest; none of this moves the
log's start up, it only holds it back.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from lockmaster_raft.core import NEVER, Core
from lockmaster_raft.coverage import promised
from lockmaster_raft.ids import Index, NodeId, Term
from lockmaster_raft.messages import Retain, SourceReport
from lockmaster_raft.pieces import OwnSnapshot
from lockmaster_raft.progress import CATCHUP, Progress
from lockmaster_raft.ready import LEADER, MakeSnapshot

NO_MANIFEST: Final = bytes(32)
OTHERS_MIN: Final = 2
"""With this many other sources the leader is none."""
SOURCES_MAX: Final = 8


def manifest_of(chunk_digests: tuple[bytes, ...]) -> bytes:
    """The content address of a whole snapshot."""
    return blake2b(b"".join(chunk_digests), digest_size=32).digest()


# --- the leader's side ----------------------------------------------------------------------------------------------


def tell_floor(core: Core) -> None:
    """With the heartbeat duties: who must keep how much of the log, told when it changes or somebody waits."""
    if not core.witness_level or core.is_caretaker or not core.progress:
        return
    floor = min(p.match for p in core.progress.values())
    lags = any(p.state is CATCHUP for p in core.progress.values())
    step = max(1, core.config.retained_entries_min // 8)
    for p in core.progress.values():
        moved = floor < p.floor_told or floor - p.floor_told >= step
        if (moved or (lags and p.snapshot_index == 0)) and promised(core, p):
            _tell(core, p, floor, 0)


def _tell(core: Core, p: Progress, floor: int, snapshot_at: int) -> None:
    p.floor_told = floor
    core.send(Retain(core.header(p.member_id), Index(floor), Index(snapshot_at)))


def on_cut(core: Core, index: Index) -> None:
    """The own state was cut at `index`: have others cut theirs there, if a member waits for a snapshot."""
    if core.role is not LEADER or not core.witness_level or core.is_caretaker:
        return
    if not any(p.state is CATCHUP or p.snapshot_min for p in core.progress.values()):
        return
    floor = min(p.match for p in core.progress.values())
    for p in core.progress.values():
        if (
            core.is_full_voter(p.member_id)
            and p.state is not CATCHUP
            and p.is_live(core.now, core.config.election_timeout_ns)
            and promised(core, p)
        ):
            _tell(core, p, floor, index)


def on_report(core: Core, p: Progress, m: SourceReport) -> bool:
    """What a member holds; True if it is the leader's own snapshot, and news."""
    if max(m.snapshot_index, m.log_first - 1) > core.log.last_index:
        core.refuse("source report beyond the leader's log")
        return False
    p.log_first = max(p.log_first, m.log_first)
    known = p.snapshot_index == m.snapshot_index and p.manifest == m.manifest
    p.snapshot_index, p.manifest = m.snapshot_index, m.manifest
    return not known and core.snapshot is not None and m.manifest == core.snapshot.manifest


def sources_of(core: Core, p: Progress, snapshot: OwnSnapshot) -> tuple[NodeId, ...]:
    """The members that this one may fetch the snapshot from; below level 2 the leader, as 0.1.0 has it (raft.md §6).

    What was reported before the level was given back counts no more.
    """
    if not core.witness_level:
        return (core.node_id,)
    others = sorted(
        q.member_id
        for q in core.progress.values()
        if q is not p
        and promised(core, q)
        and q.snapshot_index == snapshot.last_index
        and q.manifest == snapshot.manifest
        and q.reachable
        and q.is_live(core.now, core.config.election_timeout_ns)
    )[:SOURCES_MAX]
    return tuple(others) if len(others) >= OTHERS_MIN else (core.node_id, *others)


# --- the member's side ----------------------------------------------------------------------------------------------


def on_retain(core: Core, m: Retain) -> None:
    """The leader (already followed) says what is needed of this member."""
    core.floor = m.floor
    at, own = m.snapshot_at, core.snapshot
    if at > max(core.cut_at, own.last_index if own is not None else 0, core.emitted - 1) and core.full_here:
        core.cut_at = at
        core.pieces.append(MakeSnapshot(at, True))
    report(core)


def report(core: Core) -> None:
    """Tell the leader of the current term, if there is one, what this member holds."""
    if not core.leader_id or core.leader_id == core.node_id or not core.witness_level:
        return
    own = core.snapshot
    held = (own.last_index, own.last_term, own.manifest) if own is not None else (Index(0), Term(0), NO_MANIFEST)
    reply = SourceReport(core.header(core.leader_id), Index(core.log.base.index + 1), *held)
    core.send(reply, after=core.after())


def floor(core: Core) -> int:
    """Up to where this follower may move its log's start for those that lag; NEVER: as far as it likes."""
    return core.floor if core.witness_level else NEVER
