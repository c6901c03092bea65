"""StatusSnapshot from an engine: what the member list, the CLI and telemetry show."""

from __future__ import annotations

from time import CLOCK_BOOTTIME, clock_gettime_ns
from typing import TYPE_CHECKING

from lockmaster.server.status import MemberStatus, StatusSnapshot
from lockmaster.storage.founding import room_for

if TYPE_CHECKING:
    from lockmaster_raft.membership import Member
    from lockmaster_raft.node import Node

    from lockmaster.server.questions import Questions


def snapshot(engine: Questions) -> StatusSnapshot:
    """The engine's member at this moment; a blank one has zeros where there is nothing to tell."""
    directory, node = engine.directory, None if engine.is_blank else engine.node
    state, own = directory.store, node.own_member if node is not None else None
    hash_known = state is not None and state.hash_index == engine.applied_index
    counters = dict(engine.counters)
    syncs, inline = engine.disk_syncs
    counters |= {"syncs": syncs, "syncs_inline": inline, "sync_average_ns": engine.sync_average_ns}
    if node is not None:
        counters |= {"entries_applied": engine.applier.entries, "operations_applied": engine.applier.operations}
        counters |= node.fetch_counts
    return StatusSnapshot(
        cluster_id=engine.cluster_id,
        member_id=engine.member_id,
        name=engine.settings.name,
        incarnation=engine.incarnation,
        role=engine.role,
        member_role=_member_role(engine, own),
        phase=own.phase.name.lower() if own is not None else "",
        serves_state=engine.serves_state,
        caretaker=node is not None and node.is_caretaker,
        promotion=node.promotion[1] if node is not None and node.promotion is not None else "",
        term=engine.term,
        leader_id=engine.leader_id,
        leader_address=engine.leader_address(),
        commit_index=node.commit_index if node else 0,
        applied_index=engine.applied_index,
        last_index=node.last_index if node else 0,
        log_first_index=directory.journal.base.index + 1 if node else 0,
        durable_index=directory.journal.durable_index if node else 0,
        flushed_index=state.applied_flushed if state is not None and node else 0,
        revision=engine.revision,
        # A hash means something only with its index; between two closings of a generation there is none to tell.
        state_hash=state.hash if state is not None and hash_known else 0,
        free_bytes=engine.keeper.free_bytes if node else directory.space.free_bytes,
        log_bytes=directory.journal.log_bytes,
        copy_bytes=room_for(engine.keeper.state_bytes) if node and engine.keeper.state_bytes else 0,
        log_bytes_max=_log_bytes_max(engine, own),
        level_active=node.levels.active if node else 0,
        level_fence=node.levels.fence if node else 0,
        gate_epoch=node.levels.index if node else 0,
        level_max=engine.settings.level_max,
        level_floor=directory.guard.level_floor,
        pods_mark=engine.pods_mark,
        uptime_ms=(clock_gettime_ns(CLOCK_BOOTTIME) - engine.started_at) // 1_000_000,
        peer_address=engine.peer_address,
        client_address=engine.settings.advertise_client,
        configuration_epoch=node.configuration.epoch if node else 0,
        reduced_commit=node is not None and node.configuration.reduced_commit,
        members=_members(engine, node),
        alarms=tuple(f"{code}: {text}" for code, text in sorted(engine.alarms.items()) if not _over(engine, code)),
        snapshot_progress=engine.snapshot_progress,
        counters=counters,
        refusals=node.refusals if node is not None else {},
    )


def _member_role(engine: Questions, own: Member | None) -> str:
    if own is not None:
        return own.role.name.lower()
    return "witness" if engine.settings.witness else "full"


def _log_bytes_max(engine: Questions, own: Member | None) -> int:
    config = engine.settings.raft
    return config.witness_log_bytes_max if _member_role(engine, own) == "witness" else config.log_bytes_max


def _over(engine: Questions, code: str) -> bool:
    """Whether what this alarm told of is over: a fence above this binary was cancelled, a role change is complete."""
    if engine.is_blank:
        return False
    node = engine.node
    match code:
        case "fence_above":
            return node.levels.fence <= engine.settings.level_max
        case "role_change":
            return node.configuration.changing is None and node.committed_configuration.changing is None
        case "caretaker":
            return not node.is_caretaker
    return False


def _members(engine: Questions, node: Node | None) -> tuple[MemberStatus, ...]:
    if node is None:
        return ()
    rows = []
    progress = node.progress_view()
    levels = {told.member_id: told for told in node.member_levels()}
    for m in node.configuration.members:
        seen = progress.get(m.member_id)
        mine = m.member_id == engine.member_id
        match = node.last_index if mine and engine.is_leader else (seen.match_index if seen else 0)
        rows.append(
            MemberStatus(
                member_id=m.member_id,
                name=m.name,
                peer_address=m.peer_address,
                client_address=m.client_address,
                voter=m.voter,
                role=m.role.name.lower(),
                phase=m.phase.name.lower(),
                leader=m.member_id == node.leader_id,
                incarnation=m.incarnation,
                match_index=match,
                lag_entries=max(0, node.last_index - match) if engine.is_leader else 0,
                reachable=mine or (seen is not None and seen.reachable),
                level_min=levels[m.member_id].level_min,
                level_max=levels[m.member_id].level_max,
                fence_index=levels[m.member_id].fence_index,
                rtt_ns=seen.rtt_ns if seen else 0,
            )
        )
    return tuple(rows)
