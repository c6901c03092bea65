"""Snapshots (§5): the leader names one by its manifest, the member fetches its chunks by content address.

The leader sends no data unasked: InstallSnapshot carries digests and names the members that have the chunks
(sources.py), FetchPiece asks one of them for one chunk, ServePiece tells the host there to read it. BeginPieces asks
the own host what it holds of the snapshot from before a crash. Chunks arrive in any order, several at once (pieces.py),
each verified by the host (StorePiece → PieceStored); what is held stays held when the leader changes or repeats itself.
With all held, InstallPieces; with that durable, SnapshotInstalled moves the base. Between the two nothing is applied:
the state is being switched.
"""

from __future__ import annotations

from typing import Final

from lockmaster_raft import side, sources
from lockmaster_raft.core import NEVER, Core
from lockmaster_raft.coverage import bound_for_full, offer_anchor
from lockmaster_raft.events import PieceRefused, PiecesHeld, PieceStored, SnapshotInstalled, SnapshotReady
from lockmaster_raft.gates import check_supported, deactivated_at
from lockmaster_raft.ids import Index, NodeId, PersistSeq
from lockmaster_raft.membership import MemberPhase
from lockmaster_raft.messages import (
    FetchPiece,
    FetchPieceReply,
    InstallSnapshot,
    InstallSnapshotReply,
    SourceReport,
)
from lockmaster_raft.pieces import Fetch, OwnSnapshot, Pieces, timeout_ns
from lockmaster_raft.progress import CATCHUP, Progress
from lockmaster_raft.promise import settle
from lockmaster_raft.ready import (
    LEADER,
    Base,
    BeginPieces,
    Channel,
    InstallPieces,
    MakeSnapshot,
    ServePiece,
    StorePiece,
)

PIN_TIMEOUTS: Final = 10
"""Election timeouts for which the log is pinned for a member that fetches a snapshot and is not heard of."""

# --- the leader's side ----------------------------------------------------------------------------------------------


def offer(core: Core, p: Progress) -> None:
    """Name a snapshot that joins the log to a member in CATCHUP, or have one made."""
    now = core.now
    wait = core.config.election_timeout_ns
    if core.is_witness(p.member_id):
        if now - p.offered_at >= wait:
            offer_anchor(core, p)
        return
    if not core.holds_state:  # I4
        p.offered_at = now
        return
    snapshot = _own_snapshot(core, core.log.base.index)
    if snapshot is None:
        p.offered_at = now
        return
    if p.offered_index == snapshot.last_index and now - p.offered_at < wait:
        return
    _name(core, p, snapshot)


def offer_side(core: Core, p: Progress) -> None:
    """P2: name a snapshot at or above P1 to a PROMOTING witness that waits for one, or have one made."""
    if not p.snapshot_min or core.is_caretaker:
        return
    snapshot = _own_snapshot(core, Index(p.snapshot_min))
    if snapshot is None:
        return
    fresh = p.offered_index != snapshot.last_index
    if fresh or core.now - p.offered_at >= core.config.election_timeout_ns:
        _name(core, p, snapshot)


def _own_snapshot(core: Core, index_min: Index) -> OwnSnapshot | None:
    """The own snapshot if it is not older than that; else one is asked for, once in a while."""
    snapshot = core.snapshot
    if snapshot is not None and snapshot.last_index >= index_min:
        return snapshot
    if core.now - core.snapshot_asked_at >= 10 * core.config.election_timeout_ns:
        core.snapshot_asked_at = core.now
        core.pieces.append(MakeSnapshot(index_min))
    return None


def _name(core: Core, p: Progress, snapshot: OwnSnapshot) -> None:
    core.told_max = max(core.told_max, snapshot.last_index)
    p.offered_index, p.offered_at = snapshot.last_index, core.now
    p.offered_max = max(p.offered_max, snapshot.last_index)
    core.send(
        InstallSnapshot(
            core.header(p.member_id),
            p.epoch,
            snapshot.last_index,
            snapshot.last_term,
            snapshot.configuration,
            snapshot.configuration_index,
            snapshot.levels,
            snapshot.chunk_digests,
            snapshot.bytes_total,
            sources.sources_of(core, p, snapshot),
        ),
        Channel.BULK,
    )


def on_snapshot_ready(core: Core, e: SnapshotReady) -> None:
    """The host made a snapshot of this member's state: it may be served from now on."""
    if not core.machine:
        core.refuse("snapshot of a state that was dropped")
        return
    if core.snapshot is None or e.last_index >= core.snapshot.last_index:
        core.snapshot = OwnSnapshot(
            e.last_index,
            e.last_term,
            e.configuration,
            e.configuration_index,
            e.levels,
            e.chunk_digests,
            e.bytes_total,
            sources.manifest_of(e.chunk_digests),
        )
        core.snapshot_asked_at = -NEVER
        sources.report(core)


def on_source_report(core: Core, m: SourceReport) -> None:
    """A member holds a snapshot: if it is the one that others fetch, they hear of it."""
    reporter = core.progress.get(m.header.sender)
    snapshot = core.snapshot
    if reporter is None:
        core.refuse("source report of no member")
        return
    if not sources.on_report(core, reporter, m) or snapshot is None:
        return
    for p in core.progress.values():
        if p.offered_index == snapshot.last_index and p is not reporter and (p.state is CATCHUP or p.snapshot_min):
            _name(core, p, snapshot)


def on_fetch_piece(core: Core, m: FetchPiece) -> None:
    """Serve a chunk of the own snapshot, whatever the role: it is immutable and named by content."""
    own = core.snapshot
    known = own is not None and own.last_index == m.last_index and m.number < len(own.chunk_digests)
    if own is not None and known and own.chunk_digests[m.number] == m.digest:
        core.pieces.append(ServePiece(m.header.sender, m.last_index, m.number))
        return
    reply = FetchPieceReply(core.header(m.header.sender), m.last_index, m.number, False, b"")
    core.send(reply, Channel.BULK, core.after())


# --- the receiver's side --------------------------------------------------------------------------------------------


def on_install_snapshot(core: Core, m: InstallSnapshot) -> None:
    """The leader (already followed) names a snapshot: fetch it, unless the log is past it."""
    if not core.machine:
        if not side.wants(core, m):
            _reply(core, m, installed=False, reason="no promotion waits for this snapshot")
            return
    elif m.last_index <= core.commit_index:
        _reply(core, m, installed=True)
        return
    check_supported(m.levels, core.level_min, core.level_max, f"the leader's snapshot at index {m.last_index}")
    fetch = core.fetch
    if fetch is not None and fetch.installing:
        _reply(core, m, installed=False)
        return
    old = fetch.snapshot if fetch is not None else None
    if (
        fetch is None
        or old is None
        or m.last_index > old.last_index
        or (m.last_index == old.last_index and m.chunk_digests != old.chunk_digests)
    ):
        _begin(core, m)
    elif m.last_index == old.last_index:
        if m.header.sender != fetch.leader:
            core.counts["fetches_taken_over"] += 1
        fetch.snapshot, fetch.leader = m, m.header.sender
        fetch.pieces.renew(m.sources, m.header.sender)
    elif m.header.term > old.header.term and fetch.pieces.bad.issuperset(old.sources):
        # Whoever had the newer one has lost it, and this leader never had it: waiting for it would keep this member
        # out for good (found by seed 5071 of the registers).
        _begin(core, m)
    else:
        core.refuse("older snapshot than the one being fetched")
        _reply(core, m, installed=False, reason="a newer snapshot is being fetched")
        return
    _reply(core, m, installed=False)
    pump(core)


def _begin(core: Core, m: InstallSnapshot) -> None:
    core.fetch = Fetch(m, m.header.sender, Pieces(len(m.chunk_digests), m.sources, m.header.sender))
    core.pieces.append(BeginPieces(m))


def on_pieces_held(core: Core, e: PiecesHeld) -> None:
    """The host says what it has of the snapshot from before: the rest is asked for."""
    fetch = core.fetch
    if fetch is None or fetch.snapshot.last_index != e.last_index:
        return
    if e.numbers and not fetch.begun:
        core.counts["fetches_resumed"] += 1
    fetch.begun = True
    for number in e.numbers:
        if 0 <= number < fetch.pieces.total:
            fetch.pieces.hold(number)
    pump(core)


def _reply(core: Core, m: InstallSnapshot, *, installed: bool, reason: str = "") -> None:
    fetch = core.fetch
    held = len(fetch.pieces.held) if fetch is not None else 0
    reply = InstallSnapshotReply(
        core.header(m.header.sender), m.stream_epoch, m.last_index, installed, held, core.commit_index, reason
    )
    # An installed snapshot counts as a match: the log up to it, or the base that replaced it, must be durable.
    after = core.after(m.last_index) if installed else core.after()
    core.send(reply, Channel.CONTROL, after)


def refuse_stale(core: Core, m: InstallSnapshot) -> None:
    """A deposed leader's offer: the reply's header carries our term."""
    _reply(core, m, installed=False, reason="stale term")


def pump(core: Core) -> None:
    """Ask for as many missing chunks as the window allows; install when none is missing."""
    fetch = core.fetch
    if fetch is None or fetch.installing or not fetch.begun:
        return
    if fetch.pieces.is_whole:
        if len(fetch.pieces.served) > 1:
            core.counts["fetches_of_several_sources"] += 1
        if core.machine:
            fetch.installing = True
            core.pieces.append(InstallPieces(fetch.snapshot))
        else:
            side.carry_on(core)
        return
    while (asked := fetch.pieces.ask(core.now, timeout_ns(core.config.election_timeout_ns))) is not None:
        number, source = asked
        digest = fetch.snapshot.chunk_digests[number]
        core.send(FetchPiece(core.header(source), fetch.snapshot.last_index, number, digest), after=core.after())


def on_fetch_piece_reply(core: Core, m: FetchPieceReply) -> None:
    """A chunk, or the news that this source has none."""
    fetch = core.fetch
    if fetch is None or fetch.snapshot.last_index != m.last_index:
        core.refuse("piece of no snapshot being fetched")
        return
    asked = fetch.pieces.outstanding.get(m.number)
    if asked is None or (not m.found and asked.source != m.header.sender):
        core.refuse("piece not asked for")
        return
    if not m.found:
        fetch.pieces.not_there(m.number, m.header.sender)
        pump(core)
        return
    fetch.pieces.came(m.number, m.header.sender, core.now + timeout_ns(core.config.election_timeout_ns))
    digest = fetch.snapshot.chunk_digests[m.number]
    core.pieces.append(StorePiece(m.last_index, m.number, digest, m.data))


def on_piece_stored(core: Core, e: PieceStored) -> None:
    """The host verified and stored a chunk."""
    fetch = core.fetch
    if fetch is None or fetch.snapshot.last_index != e.last_index:
        return
    fetch.pieces.hold(e.number)
    pump(core)


def on_piece_refused(core: Core, e: PieceRefused) -> None:
    """The chunk was damaged or could not be used: ask for it again, unless the log got as far in the meantime."""
    fetch = core.fetch
    if fetch is None or fetch.snapshot.last_index != e.last_index:
        return
    core.refuse("snapshot piece refused by the host")
    fetch.installing = False
    drop_overtaken_fetch(core)  # now, for the next chance would be the next commit: the state must not go back
    side.reopen(core)
    fetch.pieces.refused(e.number)
    pump(core)


def fetch_deadline(core: Core) -> int:
    """When the oldest outstanding chunk is asked for again."""
    return core.fetch.pieces.deadline() if core.fetch is not None else NEVER


def expire_pieces(core: Core) -> None:
    """Chunks that did not come in time are asked for again, of another source if there is one."""
    if core.fetch is not None:
        core.fetch.pieces.expire(core.now)
        pump(core)


def drop_overtaken_fetch(core: Core) -> None:
    """The log got as far by itself, also as a leader's: nothing is fetched any more, or the state would go back."""
    fetch = core.fetch
    if core.machine and fetch is not None and not fetch.installing and fetch.snapshot.last_index <= core.commit_index:
        core.fetch = None


def on_snapshot_installed(core: Core, e: SnapshotInstalled) -> NodeId | None:
    """The state stands at the snapshot's index: move the base, keep the log's tail only if it joins (row 43).

    Returns the leader to tell, if a fetch was on.
    """
    fetch = core.fetch
    if fetch is None or fetch.snapshot.last_index != e.last_index:
        core.refuse("snapshot installed that was not being fetched")
        return None
    m = fetch.snapshot
    core.fetch = None
    core.side = None
    base = Base(m.last_index, m.last_term, m.configuration, m.configuration_index, m.levels)
    if core.log.term(m.last_index) == m.last_term and m.last_index >= core.log.base.index:
        core.write_base(base)
    else:
        core.replace_log(base)
    core.commit_index = max(core.commit_index, m.last_index)
    settle(core)
    core.emitted = core.applied = core.flushed_applied = m.last_index
    core.emitted_time = e.leader_time
    core.leader_time = max(core.leader_time, e.leader_time)
    core.refresh_configuration()
    core.committed_configuration = core.log.configuration_at(core.commit_index)[1]
    side.settle(core)
    reply = InstallSnapshotReply(
        core.header(fetch.leader), m.stream_epoch, m.last_index, True, len(m.chunk_digests), core.commit_index
    )
    after = PersistSeq(max(core.after(m.last_index), core.write_seq))
    core.send(reply, Channel.CONTROL, after)
    return fetch.leader


def _promotion_runs(core: Core) -> bool:
    """From P1's append until P4 or the abort is committed the source of its snapshot keeps its log (raft.md §4)."""
    for configuration in (core.configuration, core.committed_configuration):
        member = configuration.changing
        if member is not None and member.phase is MemberPhase.PROMOTING:
            return True
    return False


# --- the log's start ------------------------------------------------------------------------------------------------


def _budget(core: Core) -> int:
    """Most bytes of log kept for slow members: log_bytes_max as a rule.

    While a member fetches a snapshot (it answered within PIN_TIMEOUTS), or is boosted after it, twice that or as much
    as the own snapshot has, whichever is more: less log than that is cheaper to send than another snapshot, and cutting
    it off makes one necessary. Under steady writes a member whose fetch outlasts the budget would never be done.
    """
    least, wait = core.config.log_bytes_max, PIN_TIMEOUTS * core.config.election_timeout_ns
    for p in core.progress.values():
        if p.boost_until or (p.state is CATCHUP and p.is_live(core.now, wait)):
            return max(2 * least, core.snapshot.bytes_total if core.snapshot is not None else 0)
    return least


def retain(core: Core) -> None:
    """Move the base as far as flushed state, slow members and the byte budget allow (service.md §5).

    The latest entries stay, as far as retained_entries_min and retained_bytes_max go. Slow members are those that the
    own leadership, or the leader's word, knows of; for how many bytes, says `_budget`.
    Never above min(flushed applied, commit): what is in the log only is never dropped.
    """
    log, config = core.log, core.config
    if not core.full_here or _promotion_runs(core):
        return
    ceiling: int = min(core.flushed_applied, core.commit_index, core.applied)
    if core.guarded:
        ceiling = min(ceiling, bound_for_full(core) if core.role is LEADER else core.covered)
    # What a DEACTIVATE ended goes at once, or a quiet cluster would keep older binaries out for days (raft.md §6).
    spent = deactivated_at(log.gates, ceiling)
    keep = max(ceiling - config.retained_entries_min, log.index_within_bytes(config.retained_bytes_max), spent)
    for p in core.progress.values():
        known = max(p.match, p.offered_index)
        keep = min(keep, known)
    if core.role is not LEADER:
        keep = min(keep, sources.floor(core))
    budget = _budget(core)
    if log.bytes_above(max(keep, log.base.index)) > budget:
        keep = max(keep, log.index_within_bytes(budget))
    keep = min(keep, ceiling)
    entries = 0 if 0 < spent <= keep else config.retained_entries_min
    if not log.is_worth_moving(keep, entries, config.retained_bytes_max):
        return
    core.told_max = max(core.told_max, keep)
    term = log.term_at(keep)
    at, configuration = log.configuration_at(keep)
    core.write_base(Base(Index(keep), term, configuration, at, log.levels_at(keep)))
    core.base_proved = core.guarded
    settle(core)  # a level that only dropped entries needed may be given back
