"""A few `lockmaster serve` processes on this machine: for the demo, the benchmarks and tests.

Every process is started in its own session and ended by `stop`, also when the caller fails; when the caller itself is
killed, they end by themselves (tethered.py). Each member's log goes to a file beside its data.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

import grpc

from lockmaster.api import admin_pb2, admin_pb2_grpc
from lockmaster.cli import tethered
from lockmaster.cli.ports import free_ports

STOP_SECONDS = 10.0
POLL_SECONDS = 0.02
CALL_SECONDS = 1.0


class ClusterFailed(Exception):
    """A member ended or did not get ready in time; the text names it and quotes its log's last line."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """One certificate for all members' both ports, its key, and the authority that signed it."""

    ca: Path
    cert: Path
    key: Path


@dataclass(slots=True)
class Member:
    """One member's place: it keeps its ports and directory across restarts."""

    name: str
    directory: Path
    client_address: str
    peer_address: str
    process: subprocess.Popen[bytes] | None = None
    log: IO[bytes] | None = field(default=None, repr=False)
    role: str = "full"
    """What it joins as: full or witness."""
    environment: dict[str, str] = field(default_factory=dict)
    """What its process gets on top of this one's environment."""
    arguments: tuple[str, ...] = ()
    """What its `serve` is told besides what all are told."""

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self.process is not None and self.process.poll() is None

    def last_words(self) -> str:
        """The last line of its log."""
        path = self.directory.with_suffix(".log")
        lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
        return lines[-1] if lines else "it said nothing"


class LocalCluster:
    """A cluster of processes on loopback ports; a context manager that ends them all."""

    def __init__(
        self,
        directory: Path,
        *,
        size: int = 3,
        roles: tuple[str, ...] = (),
        tls: TlsFiles | None = None,
        arguments: tuple[str, ...] = (),
        module: str = "lockmaster.cli.tethered",
    ):
        """`roles`: "full" or "witness" for each member, the first full; none given: `size` full ones.

        `module` is what runs a member: it takes the command line and ends with this process, as tethered.py does.
        """
        roles = roles or ("full",) * size
        ports = free_ports(2 * len(roles))
        self._directory = directory
        self._tls = tls
        self._arguments = arguments
        self._module = module
        self.members = [
            self._place(directory, number, role, *ports[2 * number - 2 : 2 * number])
            for number, role in enumerate(roles, 1)
        ]

    @staticmethod
    def _place(directory: Path, number: int, role: str, client: int, peer: int) -> Member:
        name = f"witness-{number}" if role == "witness" else f"node-{number}"
        return Member(name, directory / name, f"127.0.0.1:{client}", f"127.0.0.1:{peer}", role=role)

    def add(self, role: str = "full", arguments: tuple[str, ...] = ()) -> Member:
        """One more place, not started yet; its `serve` gets these arguments too."""
        member = self._place(self._directory, len(self.members) + 1, role, *free_ports(2))
        member.arguments = arguments
        self.members.append(member)
        return member

    @property
    def witnesses(self) -> list[Member]:
        """The members that joined as witnesses."""
        return [member for member in self.members if member.role == "witness"]

    @property
    def full(self) -> list[Member]:
        """The members that joined as full ones."""
        return [member for member in self.members if member.role == "full"]

    def __enter__(self) -> LocalCluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def endpoints(self) -> str:
        """Every member's client address, comma-separated."""
        return ",".join(member.client_address for member in self.members)

    def start(self, *, timeout: float = 30.0) -> None:
        """Forms the cluster: the first member, then the others join it. Raises ClusterFailed."""
        for member in self.members:
            self.start_member(member)
        self.wait_until_whole(timeout)

    def start_member(self, member: Member, *, join: bool = True) -> None:
        """Starts one member, blank or with what it had; without `join` a blank one waits to be added."""
        command = [sys.executable, "-m", self._module, "serve", "--name", member.name]
        command += ["--data-dir", str(member.directory), *self._arguments, *member.arguments]
        command += ["--listen-client", member.client_address, "--listen-peer", member.peer_address]
        for witness in self.witnesses:
            command += ["--witness-names", witness.name]
        if member.role == "witness":
            command += ["--role", "witness"]
        if member is self.members[0]:
            command += ["--bootstrap"]
        elif join:
            running = [other for other in self.members if other is not member and other.running]
            for other in running or self.members[:1]:
                command += ["--join", other.client_address]
        if self._tls is None:
            command += ["--insecure"]
        else:
            files = (("ca", self._tls.ca), ("cert", self._tls.cert), ("key", self._tls.key))
            command += [word for kind, path in files for word in (f"--peer-tls-{kind}", str(path))]
            command += [word for kind, path in files[1:] for word in (f"--client-tls-{kind}", str(path))]
        if member.log is not None:
            member.log.close()
        member.log = member.directory.with_suffix(".log").open("ab")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LOCKMASTER_")} | member.environment
        if threading.current_thread() is threading.main_thread():
            environment[tethered.FROM_MAIN_THREAD] = str(os.getpid())
        if member.process is not None and member.process.stdin is not None:
            member.process.stdin.close()
        log = member.log
        member.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, start_new_session=True
        )

    def kill(self, member: Member) -> None:
        """kill -9, and waits until it is gone."""
        self._end(member, signal.SIGKILL)

    def pause(self, member: Member) -> None:
        """SIGSTOP: it neither hears nor answers until `resume`."""
        if member.process is not None:
            member.process.send_signal(signal.SIGSTOP)

    def resume(self, member: Member) -> None:
        """SIGCONT."""
        if member.process is not None:
            member.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ends every process: SIGTERM, then SIGKILL after a grace. Never raises."""
        running = [member for member in self.members if member.running]
        for member in running:
            if member.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    member.process.terminate()
                    member.process.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + STOP_SECONDS
        for member in running:
            if member.process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    member.process.wait(max(0.1, deadline - time.monotonic()))
        for member in self.members:  # those that ended by themselves too: their logs are open
            self._end(member, signal.SIGKILL)

    def _end(self, member: Member, number: signal.Signals) -> None:
        if member.process is not None:
            with contextlib.suppress(ProcessLookupError):
                member.process.send_signal(number)
            member.process.wait()
            if member.process.stdin is not None:
                member.process.stdin.close()
        if member.log is not None:
            member.log.close()
            member.log = None

    def status(self, member: Member, timeout: float = CALL_SECONDS) -> admin_pb2.StatusResponse | None:
        """What a member says about itself; None if it does not answer in time."""
        with self._channel(member) as channel:
            try:
                answer: admin_pb2.StatusResponse = admin_pb2_grpc.AdminStub(channel).Status(
                    admin_pb2.StatusRequest(), timeout=timeout
                )
                return answer
            except grpc.RpcError:
                return None

    def members_seen_by(self, member: Member) -> admin_pb2.ListMembersResponse | None:
        """The member list as one member knows it; None if it does not answer in time."""
        with self._channel(member) as channel:
            try:
                answer: admin_pb2.ListMembersResponse = admin_pb2_grpc.AdminStub(channel).ListMembers(
                    admin_pb2.ListMembersRequest(), timeout=CALL_SECONDS
                )
                return answer
            except grpc.RpcError:
                return None

    def leader(self) -> Member | None:
        """The member that says it leads in the highest term, if any does."""
        leading = []
        for member in self.members:
            answer = self.status(member) if member.running else None
            if answer is not None and answer.role == "leader" and not answer.caretaker:
                leading.append((answer.term, member))
        return max(leading, key=lambda pair: pair[0])[1] if leading else None

    def wait_until_whole(self, timeout: float) -> Member:
        """Waits until a leader sees every running member as a reachable voter; returns it. Raises ClusterFailed."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            self._check_alive()
            leader = self.leader()
            listed = self.members_seen_by(leader) if leader is not None else None
            if leader is not None and listed is not None:
                ready = [m for m in listed.members if m.voter and (m.leader or m.reachable)]
                if len(ready) >= sum(1 for member in self.members if member.running):
                    return leader
            time.sleep(POLL_SECONDS)
        words = "; ".join(f"{member.name}: {member.last_words()}" for member in self.members)
        raise ClusterFailed(f"no whole cluster after {timeout:.0f} s ({words})")

    def wait_until_caught_up(self, member: Member, index: int, timeout: float) -> int:
        """Waits until the member has applied (a witness: knows as committed) at least `index`; returns how far it is.

        Raises ClusterFailed.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            answer = self.status(member)
            reached = 0 if answer is None else answer.applied_index if answer.serves_state else answer.commit_index
            if reached >= index:
                return reached
            if not member.running:
                break
            time.sleep(POLL_SECONDS)
        raise ClusterFailed(f"{member.name} did not reach entry {index} in {timeout:.0f} s ({member.last_words()})")

    def wait_for_roles(self, wanted: dict[str, str], timeout: float) -> admin_pb2.ListMembersResponse:
        """Waits until the leader's committed view has these members as steady voters in these roles ({name: role}).

        Returns its member list. Raises ClusterFailed, which says what is there instead.
        """
        deadline = time.monotonic() + timeout
        found = "no leader"
        while time.monotonic() < deadline:
            self._check_alive()
            leader = self.leader()
            listed = self.members_seen_by(leader) if leader is not None else None
            if listed is not None:
                steady = {m.name: m.member_role for m in listed.members if m.voter and m.phase == "steady"}
                if all(steady.get(name) == role for name, role in wanted.items()):
                    return listed
                found = ", ".join(f"{m.name} {m.member_role} {m.phase}" for m in listed.members)
            time.sleep(POLL_SECONDS)
        raise ClusterFailed(f"roles are not {wanted} after {timeout:.0f} s, but: {found}")

    def _check_alive(self) -> None:
        for member in self.members:
            if member.process is not None and member.process.poll() not in (None, -signal.SIGKILL):
                raise ClusterFailed(f"{member.name} ended with {member.process.returncode}: {member.last_words()}")

    def _channel(self, member: Member) -> grpc.Channel:
        options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
        if self._tls is None:
            return grpc.insecure_channel(member.client_address, options=options)
        credentials = grpc.ssl_channel_credentials(self._tls.ca.read_bytes())
        return grpc.secure_channel(member.client_address, credentials, options=options)
