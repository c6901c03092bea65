"""A witness's log and reports: truncation by coverage (I6), the anchor of a fresh one (I7), the byte budget.

Laws of the witness: what an earlier term's leader allowed is void; nothing is truncated while a role change of its own
runs; what it holds of a state is dropped before its log is replaced.
"""

from __future__ import annotations

from lockmaster_raft import promise, side
from lockmaster_raft.commit import set_commit
from lockmaster_raft.core import Core, SideStage
from lockmaster_raft.coverage import full_deciders, proved
from lockmaster_raft.gates import check_supported
from lockmaster_raft.ids import Index
from lockmaster_raft.membership import MemberPhase
from lockmaster_raft.messages import Coverage, InstallAnchor, InstallSnapshotReply, WitnessReport
from lockmaster_raft.progress import Progress
from lockmaster_raft.ready import Base
from lockmaster_raft.role_policy import LogPolicy
from lockmaster_raft.roles import configuration_changed
from lockmaster_raft.snapshot import offer_side

# --- the leader's side ----------------------------------------------------------------------------------------------


def on_report(core: Core, m: WitnessReport) -> None:
    """A witness's log and promotion, as of now."""
    p = core.progress.get(m.header.sender)
    if p is None:
        core.refuse("witness report of no member")
        return
    if max(m.ready_index, m.snapshot_min, m.log_first - 1) > core.log.last_index:
        core.refuse("witness report beyond the leader's log")
        return
    p.log_first = max(p.log_first, m.log_first)
    p.free_bytes = m.free_bytes
    p.ready_epoch, p.ready_index = m.ready_epoch, m.ready_index
    p.snapshot_min = m.snapshot_min
    offer_side(core, p)
    _note_pressure(core, p, m)


def _note_pressure(core: Core, p: Progress, m: WitnessReport) -> None:
    pressed = core.is_witness(p.member_id) and m.log_bytes > m.log_bytes_max
    was = p.member_id in core.witness_pressed
    if pressed == was:
        return
    if not pressed:
        core.witness_pressed = tuple(w for w in core.witness_pressed if w != p.member_id)
        return
    core.witness_pressed = tuple(sorted((*core.witness_pressed, p.member_id)))
    slowest = min(full_deciders(core.configuration), key=lambda member: proved(core, member.member_id))
    core.alarm(
        "witness_log",
        f"witness {p.member_id} holds {m.log_bytes} bytes of log, more than {m.log_bytes_max}: "
        f"full voter {slowest.member_id} is proved up to {proved(core, slowest.member_id)} only",
    )


def is_blocked(core: Core) -> bool:
    """Whether a witness's budget forbids proposals now (LogPolicy.BLOCK)."""
    return bool(core.witness_pressed) and core.config.role_policy.log_policy is LogPolicy.BLOCK


# --- the witness's side ---------------------------------------------------------------------------------------------


def on_coverage(core: Core, m: Coverage) -> None:
    """The leader (already followed) says where the log may start; a witness's answer says where it does."""
    core.covered = max(core.covered, m.index)
    own = core.own_member
    if core.machine and core.side is None and (own is None or own.is_full):
        return  # a full member: snapshot.retain
    truncate(core)
    side.carry_on(core)
    promotion = core.side
    wanting = promotion is not None and promotion.stage is SideStage.FETCHING
    ready = promotion is not None and promotion.stage is SideStage.READY
    committed = core.committed_configuration.member(core.node_id)
    # Before it knows D2 committed it may cut nothing: what it holds from before is no pressure (I9).
    was_full = committed is not None and committed.is_full
    report = WitnessReport(
        core.header(m.header.sender),
        Index(core.log.base.index + 1),
        0 if was_full else core.log.bytes_above(core.log.base.index),
        core.config.witness_log_bytes_max,
        core.free_bytes,
        promotion.snapshot_min if wanting and promotion is not None else Index(0),
        promotion.epoch if ready and promotion is not None else 0,
        core.applied if ready else Index(0),
    )
    core.send(report, after=core.after())


def is_steady_witness(core: Core) -> bool:
    """A witness in force and committed, in no role change: the only one that truncates by coverage (I9)."""
    own, committed = core.own_member, core.committed_configuration.member(core.node_id)
    if own is None or own.is_full or own.phase is not MemberPhase.STEADY:
        return False
    return committed is None or (not committed.is_full and committed.phase is MemberPhase.STEADY)


def truncate(core: Core) -> None:
    """Move the log's start as far as coverage allows, keeping some for members that lag, within the budget."""
    log, config = core.log, core.config
    if core.is_caretaker or not is_steady_witness(core):
        return
    ceiling = min(core.covered, core.commit_index, log.last_index - 1)  # the last entry tells the cluster's time
    if core.machine:
        ceiling = min(ceiling, core.flushed_applied)
    bytes_max = config.witness_retained_bytes_max
    keep = max(ceiling - config.retained_entries_min, min(ceiling, log.index_within_bytes(bytes_max)))
    room = config.witness_log_bytes_max * 3 // 4
    if log.bytes_above(max(keep, log.base.index)) > room:
        keep = min(ceiling, max(keep, log.index_within_bytes(room)))
        bytes_max = 0  # under pressure by any amount
    if not log.is_worth_moving(keep, config.retained_entries_min if bytes_max else 0, bytes_max):
        return
    at, configuration = log.configuration_at(keep)
    core.write_base(Base(Index(keep), log.term_at(keep), configuration, at, log.levels_at(keep)))
    core.base_proved = True
    promise.settle(core)  # a level that only dropped entries needed may be given back


def on_anchor(core: Core, m: InstallAnchor) -> bool:
    """Start the log at the leader's anchor if it doesn't join already; True if the configuration may be another."""
    changed = False
    check_supported(m.levels, core.level_min, core.level_max, f"the leader's anchor at index {m.index}")
    if core.machine and _makes_witness(core, m):
        side.drop(core)
    if core.machine:
        _answer(core, m, installed=False, reason="this member holds a state: it takes snapshots, not anchors")
        return False
    if m.index > core.commit_index:
        if core.log.term(m.index) == m.index_term:
            set_commit(core, m.index)
        else:
            core.replace_log(Base(m.index, m.index_term, m.configuration, m.configuration_index, m.levels))
            core.base_proved = True
            core.commit_index = core.emitted = core.applied = m.index
            promise.settle(core)
            core.committed_configuration = m.configuration
            core.refresh_configuration()
            side.settle(core)
        changed = True
    _answer(core, m, installed=True)
    if changed:
        configuration_changed(core)
    return changed


def _makes_witness(core: Core, m: InstallAnchor) -> bool:
    """Whether the anchor's (committed) configuration says that this member became a witness while it was away."""
    own = m.configuration.member(core.node_id)
    return m.index > core.commit_index and own is not None and not own.is_full and own.phase is MemberPhase.STEADY


def _answer(core: Core, m: InstallAnchor, *, installed: bool, reason: str = "") -> None:
    reply = InstallSnapshotReply(
        core.header(m.header.sender), m.stream_epoch, m.index, installed, 0, core.commit_index, reason
    )
    core.send(reply, after=core.after(m.index) if installed else core.after())


def refuse_stale_anchor(core: Core, m: InstallAnchor) -> None:
    """A deposed leader's anchor: the reply's header carries our term."""
    _answer(core, m, installed=False, reason="stale term")
