"""One simulated run: hosts, network, clients, faults, the phase of chaos, then healing and the demand for progress."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from lockmaster_raft.config import SECOND
from lockmaster_raft.errors import RaftError
from lockmaster_raft.events import AddMember
from lockmaster_raft.ids import Index, NodeId, Term
from lockmaster_raft.membership import WITNESS_LEVEL, Configuration, Levels, Member, MemberRole
from lockmaster_raft.messages import Message
from lockmaster_raft.node import Node
from lockmaster_raft.ready import LEADER, Appended, Base
from lockmaster_raft.testing.application import Application
from lockmaster_raft.testing.checker import Checker, Violation
from lockmaster_raft.testing.clients import Client
from lockmaster_raft.testing.disk_faults import DiskFaults
from lockmaster_raft.testing.gate_churn import GateChurn
from lockmaster_raft.testing.host import Host
from lockmaster_raft.testing.nemesis import Nemesis
from lockmaster_raft.testing.network import Network
from lockmaster_raft.testing.probes import Prober
from lockmaster_raft.testing.quorum_first import QuorumFirst
from lockmaster_raft.testing.role_churn import RoleChurn
from lockmaster_raft.testing.scheduler import Scheduler
from lockmaster_raft.testing.swarm import FAULTS_MIN, OPERATIONS_MIN, SIMULATED_SECONDS_MIN, Mix, draw_mix, stream

HOSTS_MAX: Final = 9
CHAOS_FACTOR_MAX: Final = 6
HEAL_SECONDS_MAX: Final = 40
CALM_SECONDS_MAX: Final = 120
"""How long a run goes on after that at most, until it has done its operations."""


@dataclass(slots=True)
class RunResult:
    """What a seed did."""

    seed: int
    failure: str = ""
    simulated_ns: int = 0
    operations: int = 0
    faults: int = 0
    steps: int = 0
    trace: str = ""
    counts: Counter[str] = field(default_factory=Counter)


class Cluster:
    """The world of one seed."""

    def __init__(self, seed: int, application: Application, mix: Mix | None = None) -> None:
        self.seed = seed
        self.application = application
        self.mix = mix or draw_mix(seed)
        self.scheduler = Scheduler()
        self.network = Network(self.scheduler, self.mix, stream(seed, "network"))
        self.cluster_id = blake2b(b"cluster %d" % seed, digest_size=16).digest()
        self.counts: Counter[str] = Counter()
        self.trace = blake2b(digest_size=16)
        self.log: list[str] = []
        """The last notes, for a failure's report."""
        self.gates = GateChurn(self)
        self.checker = Checker(self)
        self.nemesis = Nemesis(self, stream(seed, "nemesis"))
        self.churn = RoleChurn(self, stream(seed, "churn"))
        self.disks = DiskFaults(self, stream(seed, "disk faults"))
        self.prober = Prober(self, stream(seed, "probes"))
        self.hosts: list[Host] = []
        self.clients: list[Client] = []
        self.operations = 0
        self.failure = ""
        self._numbers: dict[int, int] = {}
        self.healing = False

    # --- the run ------------------------------------------------------------------------------------------------

    def run(self) -> RunResult:
        """Chaos, heal, progress; never raises for what a run found."""
        try:
            self._run()
        except (Violation, RaftError) as error:
            self.failure = f"{type(error).__name__}: {error}"
        except Exception as crash:
            where = crash.__traceback__
            while where is not None and where.tb_next is not None:
                where = where.tb_next
            at = f"{where.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{where.tb_lineno}" if where else ""
            self.failure = f"crash of the product: {type(crash).__name__}: {crash} at {at}"
        result = RunResult(self.seed, self.failure, self.scheduler.now, self.operations, self.nemesis.total)
        self.checker.end_trace()
        result.steps, result.trace, result.counts = self.checker.steps, self.trace.hexdigest(), self.counts
        if not result.failure:
            result.failure = _too_little(result)
        return result

    def _run(self) -> None:
        self.form()
        self.application.start(self, stream(self.seed, "workload"))
        self.nemesis.start()
        self.churn.start()
        self.gates.start()
        self.disks.start()
        self.scheduler.run_until(self.mix.chaos_seconds * SECOND)
        # A rough mix gets more time, so that every seed is worth something; S12 judges what comes after healing.
        limit = CHAOS_FACTOR_MAX * self.mix.chaos_seconds * SECOND
        self.scheduler.run_until(limit, self._enough)
        self.churn.stop()
        self.disks.heal()
        self.nemesis.stop()
        QuorumFirst(self, stream(self.seed, "quorum first")).run()
        self.nemesis.heal()
        self.healing = True
        self.checker.healed()
        end = self.scheduler.now + HEAL_SECONDS_MAX * SECOND
        self.scheduler.run_until(end, self.checker.content)
        self.checker.finished()
        if not self._busy_enough():
            # Disks that hang or have no room can keep a cluster from its clients until the chaos ends (seeds 26, 223,
            # 360): it does the rest now, and is judged once more.
            end = self.scheduler.now + CALM_SECONDS_MAX * SECOND
            self.scheduler.run_until(end, lambda: self._busy_enough() and self.checker.content())
            self.checker.finished()

    def _enough(self) -> bool:
        return self._busy_enough() and self.nemesis.total >= FAULTS_MIN

    def _busy_enough(self) -> bool:
        return self.operations >= OPERATIONS_MIN

    def form(self) -> None:
        """Genesis on host 1; the others join as blank incarnations, as `serve --join` does."""
        mix = self.mix
        self.hosts = [Host(self, number) for number in range(1, mix.fulls + 1)]
        for number in range(mix.fulls + 1, mix.fulls + mix.witnesses + 1):
            self.hosts.append(Host(self, number, MemberRole.WITNESS))
        first = self.hosts[0]
        member = Member(NodeId(1), "m1", "peer:1", "client:1", first.incarnation, True)
        configuration = Configuration(1, (member,), NodeId(2))
        level = self.gates.level_genesis
        base = Base(Index(1), Term(1), configuration, Index(1), Levels(level, level))
        first.genesis(base, self.application.genesis())
        self._numbers[1] = 1
        self.checker.genesis(base)
        self.network.burst_until = mix.rough_start_ns
        first.boot()
        for host in self.hosts[1:]:
            self.ask_to_join(host)
        self.scheduler.run_until(30 * SECOND, self._formed)
        if not self._formed():
            raise Violation("S12", "the cluster did not form within 30 s")

    def _formed(self) -> bool:
        lead = self.leader()
        # Below the witness level no witness is admitted: those of the mix join once it is active.
        witnesses = self.mix.witnesses if self.gates.level_genesis >= WITNESS_LEVEL else 0
        expected = min(self.mix.fulls + witnesses, 3)
        return lead is not None and lead.node is not None and self.voters(lead.node) >= expected

    @staticmethod
    def voters(node: Node) -> int:
        """Voters in the node's configuration."""
        return len(node.configuration.voter_ids)

    def ask_to_join(self, host: Host, *, promote: bool = True) -> None:
        """Ask the current leader to add this blank host, until it has been added; a voter as soon as it is fit."""

        def ask() -> None:
            if host.member_id or self.healing:
                return
            lead = self.leader()
            if lead is not None:
                where = (f"m{host.number}", f"peer:{host.number}", f"client:{host.number}", host.incarnation)
                levels = host.level_max
                lead.front.admin(
                    lambda proposal_id: AddMember(proposal_id, *where, promote, role=host.role, level_max=levels),
                    self._count_admin,
                )
            self.scheduler.after(SECOND // 4, ask)

        ask()

    def _count_admin(self, outcome: object) -> None:
        self.count("change appended" if isinstance(outcome, Appended) else "change refused")

    # --- what everyone asks -------------------------------------------------------------------------------------

    def leader(self) -> Host | None:
        """The running, awake leader of the highest term, as the outside sees it."""
        best: Host | None = None
        for host in self.hosts:
            node = host.node
            if node is None or node.role is not LEADER or host.paused_until:
                continue
            if best is None or best.node is None or node.term > best.node.term:
                best = host
        return best

    def count(self, what: str) -> None:
        """One more of a named event (coverage)."""
        self.counts[what] += 1

    def note(self, text: str) -> None:
        """A line for the report of a failure; the last 200 are kept."""
        self.log.append(f"{self.scheduler.now / 1e9:10.4f} {text}")
        if len(self.log) > 400:
            del self.log[:200]

    def number_of(self, member_id: int) -> int:
        """Host number of a member id as clients know it (an address), or 0."""
        return self._numbers.get(member_id, 0)

    def operation_interval_ns(self, loops: int) -> int:
        """The mean pause between two operations of one of the workload's `loops`."""
        return self.mix.calm_interval_ns(loops) if self.healing else self.mix.operation_interval_ns

    def operation(self) -> None:
        """One client operation was answered."""
        self.operations += 1

    # --- connections --------------------------------------------------------------------------------------------

    def carry(self, host: Host, node: Node, to: NodeId, lane: int, message: Message) -> None:
        """To the incarnation that the sender's configuration names under that id, and to no other."""
        configuration = node.configuration
        member = configuration.member(to)
        number = int.from_bytes(member.incarnation, "big") if member is not None else self._numbers.get(to, 0)
        if not 0 < number <= len(self.hosts):
            return
        target = self.hosts[number - 1]
        # Only a committed configuration may give a blank directory its id: an uncommitted one may be rolled back and
        # the id minted again for another (found here: two directories became member 6, seed 9).
        committed = node.committed_configuration
        may_join = (member if committed is configuration else committed.member(to)) is not None

        def deliver() -> None:
            if not target.running or target.removed:
                return
            if target.member_id == 0 and may_join:
                self._numbers[to] = number
                target.join(to)
                self.count("joined")
            if target.member_id == to:
                target.receive(message, target.boots)

        self.network.send(host.number, number, lane, deliver)

    def connected(self, host: Host) -> None:
        """A host came up: connections form in both directions."""
        for other in self.hosts:
            if other is not host and other.running and other.member_id and host.member_id:
                host.peer(other.member_id, True)
                other.peer(host.member_id, True)

    def disconnected(self, host: Host) -> None:
        """A host went down."""
        for other in self.hosts:
            if other is not host and other.running and host.member_id:
                other.peer(host.member_id, False)

    def to_host(self, client: int, number: int, deliver: Callable[[Host], None], keepalive_of: int = 0) -> None:
        """A client's request travels to a host; `keepalive_of` names the session that it renews, if it does."""
        host = self.hosts[number - 1]

        def arrive() -> None:
            if host.running and host.node is not None:
                boots = host.boots

                def read() -> None:
                    host.unread.pop(keepalive_of, None)
                    if boots == host.boots:
                        deliver(host)

                if keepalive_of and host.paused_until:
                    host.unread.setdefault(keepalive_of, self.scheduler.now)
                host.when_awake(read)

        self.network.send(client, number, 2, arrive)


def _too_little(result: RunResult) -> str:
    if result.simulated_ns < SIMULATED_SECONDS_MIN * SECOND:
        return f"too little: {result.simulated_ns / 1e9:.1f} simulated seconds"
    if result.operations < OPERATIONS_MIN:
        return f"too little: {result.operations} client operations"
    if result.faults < FAULTS_MIN:
        return f"too little: {result.faults} faults"
    return ""
