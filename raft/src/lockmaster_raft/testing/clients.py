"""A client's transport in virtual time: attempts, lost requests and answers, retries as its policy decides."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from lockmaster_raft.config import MILLISECOND, SECOND
from lockmaster_raft.testing.frontend import Answer

if TYPE_CHECKING:
    from lockmaster_raft.testing.cluster import Cluster
    from lockmaster_raft.testing.host import Host

Done = Callable[[Answer | None], None]
Decide = Callable[[str, int, int, float, float, bool], tuple[float, int | None] | None]
"""(error, attempt, leader hint, seconds left, draw, repeatable) -> (delay in seconds, host or None: next)."""

ATTEMPT_NS: Final = 900 * MILLISECOND
REFUSED_NS: Final = 2 * MILLISECOND


def plain_policy(
    error: str, attempt: int, hint: int, left: float, draw: float, repeatable: bool
) -> tuple[float, int | None] | None:
    """The trivial application's policy: try again elsewhere, after a growing delay."""
    delay = min(1.0, 0.02 * 2.0 ** min(attempt, 8)) * (0.5 + draw / 2)
    if delay >= left or (error == "indeterminate" and not repeatable):
        return None
    return (0.0, hint) if error == "not_leader" and hint and attempt <= 3 else (delay, None)


class Client:
    """One client process; calls overlap freely."""

    def __init__(self, cluster: Cluster, number: int, draw: random.Random, decide: Decide) -> None:
        self.cluster = cluster
        self.number = number
        self.draw = draw
        self.last_success = 0
        self.target = draw.choice(cluster.hosts).number
        self._decide = decide

    def write(self, command: object, done: Done, *, reserved: bool, repeatable: bool, patience: int) -> None:
        """Send a mutation until it is answered or patience (nanoseconds) ends."""
        _Call(self, lambda host, reply: host.front.write(command, reserved, reply), done, repeatable, patience).go()

    def keep_alive(self, session: int, done: Done, patience: int) -> None:
        """Renew a session."""
        _Call(self, lambda host, reply: host.front.keep_alive(session, reply), done, True, patience, session).go()

    def read(self, query: object, done: Done, patience: int) -> None:
        """A linearizable read, checked against what was acknowledged when it began."""
        floor = self.cluster.checker.acknowledged_top

        def served(answer: Answer | None) -> None:
            if answer is not None and not answer.error:
                self.cluster.checker.served(floor, answer)
            done(answer)

        if self.draw.random() < 0.3:
            self.target = self.draw.choice(self.cluster.hosts).number
        _Call(self, lambda host, reply: host.front.read(query, reply), served, True, patience).go()

    def stale(self, query: object, done: Done) -> None:
        """One attempt at a read of any replica as it is."""
        self.target = self.draw.choice(self.cluster.hosts).number
        _Call(self, lambda host, reply: host.front.stale(query, reply), done, True, ATTEMPT_NS).go()

    def succeeded(self) -> None:
        """An operation was answered."""
        self.last_success = self.cluster.scheduler.now
        self.cluster.operation()


class _Call:
    """One call: attempts one after the other; late answers to earlier attempts are ignored."""

    def __init__(
        self,
        client: Client,
        ask: Callable[[Host, Callable[[Answer], None]], None],
        done: Done,
        repeatable: bool,
        patience: int,
        keepalive_of: int = 0,
    ) -> None:
        self._client = client
        self._keepalive_of = keepalive_of
        self._ask = ask
        self._done = done
        self._repeatable = repeatable
        self._deadline = client.cluster.scheduler.now + patience
        self._attempt = 0
        self._over = False
        self._unsure = False

    def go(self) -> None:
        """Start an attempt."""
        client, scheduler = self._client, self._client.cluster.scheduler
        if self._over:
            return
        self._attempt += 1
        attempt, target = self._attempt, client.target
        if not 0 < target <= len(client.cluster.hosts) or not client.cluster.hosts[target - 1].running:
            scheduler.after(REFUSED_NS, lambda: self._hear(attempt, Answer("unavailable")))
            return

        def arrived(host: Host) -> None:
            def reply(answer: Answer) -> None:
                number = host.number
                client.cluster.network.send(number, client.number, 2, lambda: self._hear(attempt, answer))

            self._ask(host, reply)

        client.cluster.to_host(client.number, target, arrived, self._keepalive_of)
        scheduler.after(ATTEMPT_NS, lambda: self._hear(attempt, Answer("timeout")))

    def _hear(self, attempt: int, answer: Answer) -> None:
        if self._over or attempt != self._attempt:
            return
        client = self._client
        if not answer.error:
            self._over = True
            self._done(answer)
            return
        error, timed_out = answer.error, answer.error == "timeout"
        client.cluster.count(f"client:{error}")
        if timed_out:
            error = "indeterminate"
        left = (self._deadline - client.cluster.scheduler.now) / SECOND
        decision = client._decide(error, attempt, answer.hint, left, client.draw.random(), self._repeatable)
        if decision is None or left <= 0:
            self._over = True
            self._done(None)
            return
        delay, target = decision
        if target is None or timed_out:
            # The next one, as the SDK goes through its endpoints: drawn, a client missed the two of twelve that were up
            # for all of the healing (seed 48 of the registers).
            client.target = client.target % len(client.cluster.hosts) + 1
        elif target:
            client.target = target
        self._attempt += 1
        client.cluster.scheduler.after(int(delay * SECOND), self._again)

    def _again(self) -> None:
        self.go()
