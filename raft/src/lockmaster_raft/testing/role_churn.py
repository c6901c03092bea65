"""Role churn: promotions, demotions, aborts, swaps, members lost for good, silences that make the policy act.

Beside the faults of nemesis.py, at intervals of its own. The operator of an OPERATED seed is modelled by `operate`: it
runs the same `decide` with evidence that only it has (which disks are gone) and asks the leader for the steps.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from lockmaster_raft.config import SECOND
from lockmaster_raft.events import (
    AbortRoleChange,
    DemoteMember,
    Event,
    PromoteMember,
    RemoveMember,
    SetReducedCommit,
    SwapMember,
)
from lockmaster_raft.ids import NodeId
from lockmaster_raft.membership import Configuration, Member
from lockmaster_raft.ready import Appended
from lockmaster_raft.role_policy import Demote, Observed, Promote, RoleMode, Seen, Swap, decide
from lockmaster_raft.testing.disk_faults import may_lose

if TYPE_CHECKING:
    from lockmaster_raft.node import Node
    from lockmaster_raft.testing.cluster import Cluster
    from lockmaster_raft.testing.host import Host

HOSTS_MAX: Final = 12
GAP_MAX: Final = 100
"""Entries behind at which the modelled operator calls a member caught up."""


class RoleChurn:
    """Asks for role changes at drawn times."""

    def __init__(self, cluster: Cluster, draw: random.Random) -> None:
        self._cluster = cluster
        self._draw = draw
        self._active = False
        self._kinds: dict[str, Callable[[Host, Node], bool]] = {
            "promote": self._promote,
            "demote": self._demote,
            "abort": self._abort,
            "swap": self._swap,
            "lose": self._lose,
            "silence": self._silence,
            "leader_is_witness_only": self._leave_a_witness,
            "reduced": self._reduced,
            "crash_promoting": self._crash_promoting,
            "abort_promoting": self._abort_promoting,
            "leave_a_demoting_voter": self._leave_a_demoting_voter,
            "leave_a_promoted_witness": self._leave_a_promoted_witness,
        }

    def start(self) -> None:
        """Begin, if this seed has role churn; whoever replaces lost members is there if any can be lost."""
        churns = any(weight for _, weight in self._cluster.mix.role_faults)
        if churns:
            self._active = True
            self._next()
        if churns or self._cluster.mix.disk_faults:
            self._operate()

    def stop(self) -> None:
        """No more churn; a replacement on its way is still brought in."""
        self._active = False

    def _next(self) -> None:
        interval = self._cluster.mix.role_interval_ns
        self._cluster.scheduler.after(int(interval * (0.3 + 1.4 * self._draw.random())), self._strike)

    def _strike(self) -> None:
        if not self._active:
            return
        faults = self._cluster.mix.role_faults
        kind = self._draw.choices([name for name, _ in faults], [weight for _, weight in faults])[0]
        lead = self._cluster.leader()
        if lead is not None and lead.node is not None and self._kinds[kind](lead, lead.node):
            self._cluster.count(f"churn:{kind}")
            self._cluster.note(f"churn {kind}")
        self._next()

    def _ask(self, lead: Host, what: str, event: Callable[[int], Event]) -> None:
        def answered(outcome: object) -> None:
            self._cluster.count(f"{what} {'appended' if isinstance(outcome, Appended) else 'refused'}")

        lead.front.admin(event, answered)

    def _pick(self, members: list[Member]) -> NodeId | None:
        return self._draw.choice(members).member_id if members else None

    # --- kinds ----------------------------------------------------------------------------------------------------

    def _promote(self, lead: Host, node: Node) -> bool:
        who = self._pick([m for m in node.configuration.members if not m.is_full])
        if who is not None:
            self._ask(lead, "promote", lambda number: PromoteMember(number, who))
        return who is not None

    def _demote(self, lead: Host, node: Node) -> bool:
        who = self._pick([m for m in node.configuration.members if m.is_full and m.voter])
        if who is not None:
            self._ask(lead, "demote", lambda number: DemoteMember(number, who))
        return who is not None

    def _abort(self, lead: Host, node: Node) -> bool:
        member = node.configuration.changing
        if member is not None:
            self._ask(lead, "abort", lambda number: AbortRoleChange(number, member.member_id))
        return member is not None

    def _promoting(self) -> list[Host]:
        return [h for h in self._cluster.hosts if h.running and h.node is not None and h.node.promotion is not None]

    def _start(self, lead: Host, node: Node, then: Callable[[Host], object]) -> bool:
        """Have a promotion begin, and strike at its witness at some moment of it."""
        if not self._promoting() and not self._promote(lead, node):
            return False

        def strike() -> None:
            for host in self._promoting() if self._active else []:
                then(host)

        wait = int(self._draw.random() * 5 * self._cluster.mix.side_ns)
        self._cluster.scheduler.after(SECOND // 50 + wait, strike)
        return True

    def _crash_promoting(self, lead: Host, node: Node) -> bool:
        return self._start(lead, node, lambda host: self._away(host, SECOND // 2))

    def _abort_promoting(self, lead: Host, node: Node) -> bool:
        def abort(host: Host) -> None:
            now = self._cluster.leader()
            if now is not None:
                self._ask(now, "abort", lambda number: AbortRoleChange(number, host.member_id))

        return self._start(lead, node, abort)

    def _reduced(self, lead: Host, node: Node) -> bool:
        wanted = not node.configuration.reduced_commit
        self._ask(lead, "reduced", lambda number: SetReducedCommit(number, wanted))
        return True

    def _swap(self, lead: Host, node: Node) -> bool:
        """A healthy voter is replaced: a blank host joins as a learner, the operator swaps it in."""
        if self._waiting(node.configuration) or len(node.configuration.members) > 6:
            return False
        old = [m for m in node.configuration.members if m.voter and m.member_id != lead.member_id]
        return bool(old) and self._new_host(self._draw.choice(old))

    def _new_host(self, old: Member) -> bool:
        from lockmaster_raft.testing.host import Host

        hosts = self._cluster.hosts
        if len(hosts) >= HOSTS_MAX or any(not host.member_id for host in hosts):
            return False
        host = Host(self._cluster, len(hosts) + 1, old.role)
        hosts.append(host)
        self._cluster.ask_to_join(host, promote=False)
        return True

    def _lose(self, lead: Host, node: Node) -> bool:
        """One machine is gone for good, disks and all; never a second one before the first is replaced."""
        hosts = self._cluster.hosts
        ids = {m.member_id for m in node.configuration.members} | set(node.configuration.outgoing)
        if not may_lose(self._cluster, node):
            return False
        fit = [h for h in hosts if h.member_id in ids and not h.lost]
        host = self._draw.choice(fit)
        host.lost = True
        if host.running:
            host.crash(True)
        self._cluster.note(f"host {host.number} is lost for good")
        return True

    def _silence(self, lead: Host, node: Node) -> bool:
        """A full voter stays away long enough for the policy to promote a witness."""
        full = {m.member_id for m in node.configuration.members if m.voter and m.is_full}
        fit = [h for h in self._cluster.hosts if h.running and h.member_id in full and h is not lead]
        return bool(fit) and self._away(
            self._draw.choice(fit), 3 * self._cluster.mix.config.role_policy.promote_after_ns
        )

    def _leave_a_witness(self, lead: Host, node: Node) -> bool:
        """Scenario 1 of WR 3.8: a full voter lags, the leader commits with the witness alone, then dies."""
        members = node.configuration.members
        full = {m.member_id for m in members if m.voter and m.is_full}
        if all(m.is_full for m in members):
            return False
        others = [h for h in self._cluster.hosts if h.running and h.member_id in full and h is not lead]
        for host in others:
            self._away(host, int(1.5 * SECOND))

        return bool(others) and self._later_away(lead, int(1.2 * SECOND))

    def _others(self, lead: Host, node: Node, but: NodeId) -> list[Host]:
        """The running full voters besides the leader and that one."""
        full = {m.member_id for m in node.configuration.members if m.voter and m.is_full} - {but}
        return [h for h in self._cluster.hosts if h.running and h.member_id in full and h is not lead]

    def _leave_a_demoting_voter(self, lead: Host, node: Node) -> bool:
        """D1 is committed while the others are away, then the leader goes: only the DEMOTING one can be elected."""
        full = [m for m in node.configuration.members if m.voter and m.is_full and m.member_id != lead.member_id]
        who = self._pick(full)
        if who is None or len(full) < 2:
            return False
        for host in self._others(lead, node, who):
            self._away(host, 2 * SECOND)
        self._ask(lead, "demote", lambda number: DemoteMember(number, who))
        return self._later_away(lead, int(0.4 * SECOND))

    def _leave_a_promoted_witness(self, lead: Host, node: Node) -> bool:
        """The leader goes between P4's append and its commit, or soon after, with the other full voters behind."""
        who = self._pick([m for m in node.configuration.members if not m.is_full and m.voter])
        if who is None:
            return False
        for host in self._others(lead, node, who):
            self._away(host, 4 * SECOND)
        self._ask(lead, "promote", lambda number: PromoteMember(number, who))

        def look(left: int) -> None:
            now = lead.node
            member = now.configuration.member(who) if now is not None else None
            if now is None or member is None or left == 0 or not self._active:
                return
            if member.is_full:
                self._later_away(lead, int(2 * self._draw.random() * self._cluster.mix.delay_ns))
                return
            self._cluster.scheduler.after(SECOND // 500, lambda: look(left - 1))

        look(2000)
        return True

    def _later_away(self, host: Host, wait: int) -> bool:
        def strike() -> None:
            if self._active and host.running:
                self._away(host, 6 * SECOND)

        self._cluster.scheduler.after(wait, strike)
        return True

    def _away(self, host: Host, down: int) -> bool:
        host.crash(False)

        def back() -> None:
            if not host.running and not host.lost:
                host.boot()

        self._cluster.scheduler.after(int(down * (0.7 + 0.6 * self._draw.random())), back)
        return True

    # --- the operator -----------------------------------------------------------------------------------------------

    def _waiting(self, configuration: Configuration) -> list[Member]:
        return [m for m in configuration.members if not m.voter and not m.promote_when_caught_up]

    def _operate(self) -> None:
        """Every half second: replace what is lost, finish swaps, and in OPERATED mode everything that decide says."""
        self._cluster.scheduler.after(SECOND // 2, self._operate)
        lead = self._cluster.leader()
        if lead is None or lead.node is None or not lead.node.own_term_committed:
            return
        self._replace(lead, lead.node)
        policy = self._cluster.mix.config.role_policy
        for step in decide(self._observed(lead, lead.node), policy, lead.clock.now()):
            self._do(lead, policy.mode, step)

    def _do(self, lead: Host, mode: RoleMode, step: object) -> None:
        if isinstance(step, Swap):
            self._ask(lead, "swap", lambda number: SwapMember(number, step.old_id, step.new_id))
        elif mode is RoleMode.OPERATED and isinstance(step, Promote):
            self._ask(lead, "promote", lambda number: PromoteMember(number, step.member_id))
        elif mode is RoleMode.OPERATED and isinstance(step, Demote):
            self._ask(lead, "demote", lambda number: DemoteMember(number, step.member_id))

    def _replace(self, lead: Host, node: Node) -> None:
        """See that there is a learner for every lost voter; remove what is lost and no voter."""
        configuration = node.configuration
        lost = {h.member_id for h in self._cluster.hosts if h.lost}
        waiting = self._waiting(configuration)
        for member in configuration.members:
            if member.member_id not in lost or configuration.outgoing:
                continue
            if not member.voter:
                self._ask(lead, "removal", lambda number, who=member.member_id: RemoveMember(number, who))  # type: ignore[misc]
            elif not any(w.role is member.role and w.member_id not in lost for w in waiting):
                self._new_host(member)

    def _observed(self, lead: Host, node: Node) -> Observed:
        views = node.progress_view()
        lost = {h.member_id for h in self._cluster.hosts if h.lost}
        now = lead.clock.now()
        seen = [Seen(lead.member_id, 0, True)]
        for view in views.values():
            near = node.commit_index - view.match_index <= GAP_MAX
            seen.append(Seen(view.member_id, view.silent_ns, near, lost=view.member_id in lost))
        # A healthy voter with a replacement waiting for it counts as lost to the operator: that is what a swap is.
        # Never the leader, which no swap takes: it would have a witness promoted and demoted again for ever.
        configuration = node.configuration
        for waiting in self._waiting(configuration):
            same = [
                m for m in configuration.members if m.voter and m.role is waiting.role and m.member_id != lead.member_id
            ]
            if same and not any(m.member_id in lost for m in same):
                old = same[-1].member_id
                seen = [replace(s, lost=True) if s.member_id == old else s for s in seen]
        return Observed(
            configuration,
            lead.member_id,
            node.levels.active,
            node.configuration_index > node.commit_index,
            None,
            now - 60 * SECOND if all(not s.silent_ns and s.caught_up for s in seen) else None,
            False,
            tuple(seen),
        )
