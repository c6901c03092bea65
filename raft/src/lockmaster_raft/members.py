"""Membership (§4): single-step changes, learner first, one at a time, compare-and-set on the epoch.

Preconditions of every CONFIG entry, in this order: leader; an entry of the own term committed (else two changes can
have disjoint quorums, row 38); no transfer; no other CONFIG or GATE uncommitted (I10); the expected epoch. A change
takes force when appended; a truncated one is rolled back by the log, however many there were.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from lockmaster_raft.core import Core
from lockmaster_raft.coverage import why_not_covered
from lockmaster_raft.entry import CONFIG
from lockmaster_raft.errors import ChangeRefused, NotLeader, NotReady, NotYet, ProposalRefused
from lockmaster_raft.events import AddMember, ChangeMember, RemoveMember
from lockmaster_raft.gates import promise_bounds
from lockmaster_raft.ids import INDEX_MAX, NodeId
from lockmaster_raft.membership import (
    MEMBERS_MAX,
    WITNESS_LEVEL,
    Configuration,
    Member,
    MemberPhase,
    MemberRole,
    encode_configuration,
)
from lockmaster_raft.progress import REPLICATE, Progress
from lockmaster_raft.quorum import has_quorum, majority
from lockmaster_raft.ready import LEADER, Appended, Refused, Resolved
from lockmaster_raft.replication import replicate_all, send_append
from lockmaster_raft.roles import configuration_changed

NAME_BYTES_MAX: Final = 253
ADDRESS_BYTES_MAX: Final = 261
PROMOTION_GAP_MAX: Final = 256
"""Entries a learner may be behind when it becomes a voter."""


def why_not_change_now(core: Core, *, completing: bool = False) -> ProposalRefused | None:
    """What every CONFIG and GATE entry needs, whatever is in it (I10); `completing`: see why_not_now."""
    if core.role is not LEADER:
        return NotLeader(core.leader_id)
    if core.is_caretaker and (not completing or core.is_witness(core.node_id)):
        return NotReady(f"member {core.node_id} leads only to hand over")
    if not core.own_term_committed:
        return NotYet("no entry of this leader's term is committed yet")
    if core.transfer is not None:
        return NotYet(f"a transfer to member {core.transfer.target} is running")
    if core.log.configuration_index > core.commit_index:
        return NotYet(f"the configuration change at index {core.log.configuration_index} is not committed yet")
    if core.log.levels.index > core.commit_index:
        return NotYet(f"the gate entry at index {core.log.levels.index} is not committed yet")
    return None


def why_not_now(core: Core, expected_epoch: int | None, *, completing: bool = False) -> ProposalRefused | None:
    """Why no CONFIG can be appended now; `completing`: one that ends the joint or role change that runs."""
    error = why_not_change_now(core, completing=completing)
    if error is not None:
        return error
    if expected_epoch is not None and expected_epoch != core.configuration.epoch:
        return ChangeRefused(f"the configuration epoch is {core.configuration.epoch}, not {expected_epoch}")
    return None if completing else _why_not_beside(core)


def _why_not_beside(core: Core) -> NotReady | None:
    """Nothing else changes while a joint or role change runs: its epoch names it (raft.md §4)."""
    configuration = core.configuration
    if configuration.outgoing:
        return NotReady(f"the joint change from voters {list(configuration.outgoing)} is not left yet")
    member = configuration.changing
    if member is not None:
        return NotReady(f"member {member.member_id} is {member.phase.name}: complete or abort that first")
    if configuration.reduced_commit and not has_quorum(configuration.voter_ids, (), live := live_members(core)):
        silent = [v for v in configuration.voter_ids if v not in live]
        return NotReady(
            f"a change needs a majority that answers, though half of the voters commit: {silent} are silent"
        )
    return None


def why_not_level(core: Core) -> ChangeRefused | None:
    """I13: nothing of level 2 below level 2."""
    if core.witness_level:
        return None
    active = min(core.committed_levels.active, core.log.levels.active)
    return ChangeRefused(
        f"witness roles and joint changes need level {WITNESS_LEVEL}; this cluster runs at level {active}"
    )


def on_add_member(core: Core, e: AddMember) -> None:
    """Add a learner under a fresh id. Resolved or Appended; idempotent by incarnation."""
    if core.role is LEADER:
        for member in core.configuration.members:
            if member.incarnation == e.incarnation:
                index = core.log.configuration_index
                if index > core.commit_index and core.committed_configuration.member(member.member_id) is None:
                    appended = Appended(e.proposal_id, index, core.log.term_at(index), member.member_id)
                    core.proposals.append(appended)
                else:
                    core.proposals.append(Resolved(e.proposal_id, member.member_id))
                return
    error = why_not_now(core, e.expected_epoch) or _why_not_add(core, e)
    if error is not None:
        core.proposals.append(Refused(e.proposal_id, error))
        return
    member_id = core.configuration.next_member_id
    member = Member(
        member_id,
        e.name,
        e.peer_address,
        e.client_address,
        e.incarnation,
        voter=False,
        role=e.role,
        promote_when_caught_up=e.promote_when_caught_up,
    )
    append_configuration(core, e.proposal_id, core.configuration.with_member(member), member_id)


def _why_not_add(core: Core, e: AddMember) -> ProposalRefused | None:
    configuration, levels = core.configuration, core.log.levels
    if e.role is not MemberRole.FULL:
        error = why_not_level(core)
        if error is not None:
            return error
        if configuration.reduced_commit:
            voters = list(configuration.voter_ids)
            return ChangeRefused(f"{e.name} would be a witness: the reduced commit quorum of {voters} allows none")
    needed = promise_bounds(core.log.gates, core.commit_index)[1]
    if e.level_max < needed:
        why = f"a FENCE for level {levels.fence} stands at index {levels.index}"
        if levels.fence < needed or levels.fence == levels.active:
            why = f"the log needs level {needed}"
        return ChangeRefused(f"{e.name} knows levels up to {e.level_max}: {why}")
    if e.level_min > levels.active:
        return ChangeRefused(f"{e.name} needs level {e.level_min} or above; level {levels.active} is active")
    if len(configuration.members) >= MEMBERS_MAX:
        return ChangeRefused(f"the configuration has {MEMBERS_MAX} members, the most there may be")
    if len(e.incarnation) != 16:
        return ChangeRefused(f"an incarnation is 16 bytes, not {len(e.incarnation)}")
    if configuration.next_member_id >= INDEX_MAX:
        return ChangeRefused(f"member ids are used up at {configuration.next_member_id}")
    return _why_not_texts(configuration, NodeId(0), e.name, e.peer_address, e.client_address)


def _why_not_texts(
    configuration: Configuration, member_id: NodeId, name: str, peer: str, client: str
) -> ProposalRefused | None:
    if not 0 < len(name.encode()) <= NAME_BYTES_MAX:
        return ChangeRefused(f"a member's name has 1 to {NAME_BYTES_MAX} bytes, not {len(name.encode())}")
    if not 0 < len(peer.encode()) <= ADDRESS_BYTES_MAX or len(client.encode()) > ADDRESS_BYTES_MAX:
        sizes = f"{len(peer.encode())} and {len(client.encode())}"
        return ChangeRefused(f"an address of {name} has 1 to {ADDRESS_BYTES_MAX} bytes, not {sizes}")
    for other in configuration.members:
        if other.member_id != member_id and other.name == name:
            return ChangeRefused(f"member {other.member_id} is already named {name!r}")
    return None


def on_change_member(core: Core, e: ChangeMember) -> None:
    """Replace a member's record by one single-step change."""
    error = why_not_now(core, e.expected_epoch) or _why_not_change(core, e.member)
    if error is not None:
        core.proposals.append(Refused(e.proposal_id, error))
        return
    change_voters(core, e.proposal_id, core.configuration.with_member(e.member), e.member.member_id)


def _why_not_change(core: Core, member: Member) -> ProposalRefused | None:
    configuration = core.configuration
    old = configuration.member(member.member_id)
    if old is None:
        return ChangeRefused(f"member {member.member_id} is not in the configuration")
    if member.incarnation != old.incarnation:
        return ChangeRefused(f"member {member.member_id} is one incarnation for good; add the new one beside it")
    if (member.role, member.phase) != (old.role, old.phase):
        return ChangeRefused(f"the role of member {member.member_id} changes by promotion and demotion only")
    error = _why_not_texts(configuration, member.member_id, member.name, member.peer_address, member.client_address)
    if error is not None:
        return error
    if member.voter and not old.voter:
        p = core.progress.get(member.member_id)
        if p is None or not fit_to_vote(core, p):
            match = p.match if p is not None else 0
            return NotReady(f"member {member.member_id} is not caught up: {match} of {core.log.last_index}")
    after = configuration.with_member(member)
    return why_not_voters(core, after) or (why_not_covered(core, after) if member.voter else None)


def on_remove_member(core: Core, e: RemoveMember) -> None:
    """Remove a member. A leader that removes itself leads, uncounted, until that commits (§4.2.2)."""
    error = why_not_now(core, e.expected_epoch)
    if error is None:
        if core.configuration.member(e.member_id) is None:
            error = ChangeRefused(f"member {e.member_id} is not in the configuration")
        else:
            error = why_not_voters(core, core.configuration.without_member(e.member_id))
    if error is not None:
        core.proposals.append(Refused(e.proposal_id, error))
        return
    change_voters(core, e.proposal_id, core.configuration.without_member(e.member_id), e.member_id)


def why_not_voters(core: Core, after: Configuration) -> ProposalRefused | None:
    """I8's floor, full voters in the majority, and no change that leaves the group without a live quorum."""
    before = core.configuration
    if after.voter_ids == before.voter_ids:
        return None
    floor = min(max(1, before.full_min), before.full_voter_count)
    if after.full_voter_count < floor:
        return ChangeRefused(too_few_full(after, floor))
    least = majority(len(after.voter_ids))
    if after.full_voter_count < least and any(m.voter and not m.is_full for m in after.members):
        return ChangeRefused(
            f"{after.full_voter_count} of the voters {list(after.voter_ids)} would be full, fewer than {least}"
        )
    live = live_members(core)
    if not has_quorum(after.voter_ids, after.outgoing, live):
        silent = [v for v in after.deciders if v not in live]
        return ChangeRefused(f"the voters left would have no live quorum: {silent} are silent")
    return None


def too_few_full(after: Configuration, least: int) -> str:
    """The refusal of a change that leaves this configuration: which full voters it would have, and how few they are."""
    left = [m.member_id for m in after.members if m.voter and m.is_full and m.phase is not MemberPhase.DEMOTING]
    return f"{len(left)} full voters would be left, fewer than {least}: {left}"


def live_members(core: Core) -> set[NodeId]:
    """Those of `is_live`, and this leader itself."""
    return {p.member_id for p in core.progress.values() if is_live(core, p)} | {core.node_id}


def is_live(core: Core, p: Progress) -> bool:
    """Answered a heartbeat that was sent within the last election timeout."""
    return p.is_live(core.now, core.config.election_timeout_ns)


def change_voters(core: Core, proposal_id: int | None, after: Configuration, member_id: NodeId) -> None:
    """Append a change of at most one voter: in one step, or jointly with the reduced commit quorum (I11).

    A deposed leader's uncommitted single step could elect past a commit by half of the old voters (of 1234: 34 commit
    under the old, 12 elect under 123); a joint one needs a majority of the old.
    """
    before = core.configuration
    if before.reduced_commit and before.voter_ids != after.voter_ids:
        after = joint(before, after)
    append_configuration(core, proposal_id, after, member_id)


def joint(before: Configuration, after: Configuration) -> Configuration:
    """The joint configuration between the two (§4.3): who is in `before` only stays, LEAVING, until it is left."""
    leaving = [
        replace(m, voter=False, phase=MemberPhase.LEAVING) for m in before.members if after.member(m.member_id) is None
    ]
    members = tuple(sorted([*after.members, *leaving], key=lambda m: m.member_id))
    return replace(after, epoch=before.epoch + 1, members=members, outgoing=before.voter_ids)


def append_configuration(core: Core, proposal_id: int | None, after: Configuration, member_id: NodeId) -> None:
    """Append the CONFIG entry: in force from here on."""
    entry = core.append_own(CONFIG, encode_configuration(after))
    if proposal_id is not None:
        core.proposals.append(Appended(proposal_id, entry.index, entry.term, member_id))
    departing = [core.progress[m] for m in sorted(core.progress) if after.member(m) is None]
    for p in departing:
        # The one that leaves should hear of it: it gets the entry if its window has room, else Removed at commit.
        _last_words(core, p)
    configuration_changed(core)
    replicate_all(core)


def _last_words(core: Core, p: Progress) -> None:
    if p.state is REPLICATE and core.log.last_index - p.next < core.config.batch_entries_max:
        send_append(core, p, core.config.batch_entries_max, core.config.batch_bytes_max)


# --- the caught-up test (§4.2.1) ------------------------------------------------------------------------------------


def note_learner_match(core: Core, p: Progress) -> None:
    """A learner's match rose: end its round if it reached the round's target."""
    if p.caught_up or p.match < p.catch_target:
        return
    took = core.now - p.catch_started
    p.catch_rounds += 1
    if took < core.config.election_timeout_ns:
        p.caught_up = True
        promote_learners(core)
        return
    if p.catch_rounds == core.config.caught_up_rounds_max:
        core.alarm(
            "learner_slow",
            f"member {p.member_id} did not catch up within {p.catch_rounds} rounds; the last took {took} ns",
        )
    p.catch_target, p.catch_started = core.log.last_index, core.now
    if p.match >= p.catch_target:
        # Nothing was appended meanwhile: the next round is empty and over. (An idle cluster never formed: no entry
        # came to end the round, and none is admitted before there are two full voters. Simulator seed 4.)
        p.caught_up = True
        promote_learners(core)


def fit_to_vote(core: Core, p: Progress) -> bool:
    """Passed the caught-up test, is heard of, and is close enough not to delay commits.

    A witness also holds all that logs may have been cut at because every witness had it (coverage.bound_for_full).
    """
    if core.is_witness(p.member_id) and p.match < max(core.term_start, core.told_max):
        return False
    return p.caught_up and is_live(core, p) and core.log.last_index - p.match <= PROMOTION_GAP_MAX


def promote_learners(core: Core) -> None:
    """Make the first fit learner a voter, if nothing stands in the way; looked at with every round."""
    configuration = core.configuration
    if len(configuration.voter_ids) == len(configuration.members) or why_not_now(core, None) is not None:
        return
    for member in configuration.members:
        p = core.progress.get(member.member_id)
        if member.voter or not member.promote_when_caught_up or p is None or not fit_to_vote(core, p):
            continue
        promoted = replace(member, voter=True)
        if _why_not_change(core, promoted) is None:
            change_voters(core, None, configuration.with_member(promoted), member.member_id)
            return
