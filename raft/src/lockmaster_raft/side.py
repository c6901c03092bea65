"""A promotion at the witness (raft.md §4, P2 and P3): a state built beside the log while it goes on voting and acking.

P1 committed: FETCHING asks the leader, in its reports, for a snapshot at or above P1 and fetches its chunks. All held,
and everything up to it committed here: OPENING. Open: REPLAYING, the log's entries after the snapshot are applied.
Nearly caught up: FINISHING, and with `sm_ready` durable READY, which the leader needs to append P4. P4 committed: the
side state is the state. Every arrow may be cut by a crash: without `sm_ready` it begins again at FETCHING.

A boot commits its log anew, step by step, and the log may begin in the middle of a promotion that is long over: P1 at
its base, then P4, D1 and D2. The state was deleted for D2; so P4 finds none, which is no fault when the log goes on to
say that this member is a witness again. What was begun anew for that P1 is dropped when D2 is committed once more.

Laws: no BASE is written from P1's append to the end (witness.truncate, snapshot.retain); nothing of the promotion is
believed but for the epoch of its own committed P1; what is dropped was a witness's by a *committed* CONFIG (I9).
"""

from __future__ import annotations

from lockmaster_raft.core import Core, Side, SideStage
from lockmaster_raft.errors import InvariantViolation
from lockmaster_raft.events import SideOpened, SideReady
from lockmaster_raft.ids import Index
from lockmaster_raft.membership import MemberPhase
from lockmaster_raft.messages import InstallSnapshot
from lockmaster_raft.ready import AdoptSide, DropState, FinishSide, OpenSide


def settle(core: Core, *, at_boot: bool = False) -> None:
    """The committed configuration is another one: begin, adopt or drop a state as it says of this member."""
    own = core.committed_configuration.member(core.node_id)
    side = core.side
    if own is None:
        pass
    elif own.is_full:
        if side is not None and side.stage is SideStage.READY:
            core.side = None
            core.state_actions.append(AdoptSide(side.epoch))
        elif side is not None and not _is_full_no_more(core):
            raise InvariantViolation(f"member {core.node_id} is full, its side state is only {side.stage.value}")
    elif own.phase is MemberPhase.PROMOTING:
        _begin(core, at_boot=at_boot)
    elif core.machine or side is not None:
        drop(core)
    core.refresh_standing()


def _is_full_no_more(core: Core) -> bool:
    """Whether the own log says later, above the commit index, that this member holds no state."""
    later = (c.member(core.node_id) for at, c in core.log.configurations if at > core.commit_index)
    return any(own is not None and not own.is_full for own in later)


def _begin(core: Core, *, at_boot: bool) -> None:
    """P1 is committed here."""
    epoch, side = core.committed_configuration.epoch, core.side
    if side is not None and side.epoch == epoch:
        return
    if side is None and core.machine and at_boot:
        # Adopted before the crash: what is applied is below P4, which the log holds.
        return
    if core.machine or side is not None:
        drop(core)
    core.side = Side(epoch, core.log.configuration_at(core.commit_index)[0])


def drop(core: Core) -> None:
    """No state any more: what is committed counts as applied from now on."""
    core.machine = False
    core.side = None
    core.fetch = None
    core.snapshot = None
    core.flushed_applied = Index(0)
    core.emitted = core.applied = core.commit_index
    core.state_actions.append(DropState())
    core.refresh_standing()


def wants(core: Core, m: InstallSnapshot) -> bool:
    """Whether this snapshot is what P2 is waiting for."""
    side = core.side
    if side is None or side.stage is not SideStage.FETCHING:
        return False
    return m.last_index >= max(side.snapshot_min, core.log.base.index)


def carry_on(core: Core) -> None:
    """All chunks are held: open them once everything up to the snapshot is committed here."""
    side, fetch = core.side, core.fetch
    if side is None or side.stage is not SideStage.FETCHING or fetch is None:
        return
    snapshot = fetch.snapshot
    if not fetch.pieces.is_whole or core.commit_index < snapshot.last_index:
        return
    side.stage = SideStage.OPENING
    fetch.installing = True
    core.state_actions.append(OpenSide(side.epoch, snapshot))


def reopen(core: Core) -> None:
    """A chunk was no good: it is fetched again, then all of them opened again."""
    if core.side is not None and core.side.stage is SideStage.OPENING:
        core.side.stage = SideStage.FETCHING


def on_opened(core: Core, e: SideOpened) -> None:
    """The side state stands at the snapshot's index: feed it from the log."""
    side, fetch = core.side, core.fetch
    expected = fetch.snapshot.last_index if fetch is not None else 0
    if side is None or side.epoch != e.epoch or side.stage is not SideStage.OPENING or expected != e.index:
        core.refuse("side state of no promotion under way")
        return
    core.fetch = None
    if e.index < core.log.base.index:
        # An anchor moved the log's start meanwhile: a later snapshot is needed.
        side.stage = SideStage.FETCHING
        return
    side.stage = SideStage.REPLAYING
    core.machine = True
    core.emitted = core.applied = core.flushed_applied = e.index
    after_applied(core)


def after_applied(core: Core) -> None:
    """Nearly caught up: have `sm_ready` written."""
    side = core.side
    if side is None or side.stage is not SideStage.REPLAYING:
        return
    if core.commit_index - core.applied <= core.config.role_gap_entries_max:
        side.stage = SideStage.FINISHING
        core.state_actions.append(FinishSide(side.epoch))


def on_ready(core: Core, e: SideReady) -> None:
    """`sm_ready` is durable: from now on the reports say so."""
    side = core.side
    if side is None or side.epoch != e.epoch or side.stage is not SideStage.FINISHING:
        core.refuse("side state of no promotion under way")
        return
    side.stage = SideStage.READY
    core.flushed_applied = max(core.flushed_applied, e.index)
