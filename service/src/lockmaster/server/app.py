"""One server process: settings in, exit code out. Wires engine, client port, health, telemetry and signals."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import os
import re
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
import uvloop
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from lockmaster_raft.errors import InvariantViolation, StorageFailed
from lockmaster_raft.membership import LEVEL_MAX

from lockmaster.addresses import join_address, split_address
from lockmaster.errors import LockmasterError, PreconditionFailed
from lockmaster.server import tls
from lockmaster.server.admin import AdminCalls
from lockmaster.server.callers import Caller, Callers, Unauthenticated, while_good
from lockmaster.server.direct_port import DirectPort
from lockmaster.server.events import EventHub, RevisionWaiters
from lockmaster.server.exit_codes import ExitCode
from lockmaster.server.health import Health
from lockmaster.server.joining import JoinRefused, join
from lockmaster.server.operations import Operations, Origin
from lockmaster.server.relay import MESSAGE_BYTES_MAX, Relay
from lockmaster.server.runtime import Engine
from lockmaster.server.session_stream import SessionStream, StreamContext
from lockmaster.server.settings import Settings
from lockmaster.server.status import EngineSettings
from lockmaster.server.tasks import end_task
from lockmaster.server.telemetry import Telemetry, configure_logging
from lockmaster.server.unary import SERVICES, Unary, abort
from lockmaster.server.watches import WatchHub
from lockmaster.storage.errors import Amnesia, CorruptLog, DirectoryBusy, WrongFormat

if TYPE_CHECKING:
    from lockmaster.server.token_review import ApiServer, Logins

_log = logging.getLogger(__name__)
GC_ALLOCATIONS: Final = 100_000
"""Net new containers between two young collections: hardly anything here is cyclic, and at the default of 700 the
collector took half of the time of applying a put."""
TICK_S: Final = 0.25
DRAIN_S: Final = 1.0
"""After the hint to go elsewhere: how long streams may take to get their answers and leave by themselves."""

SERVER_OPTIONS: Final = (
    # Without this two servers share one port without an error.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", 2 * MESSAGE_BYTES_MAX),
    ("grpc.max_concurrent_streams", 1024),
    ("grpc.max_metadata_size", 16 << 10),
    ("grpc.absolute_max_metadata_size", 32 << 10),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 4_000),
    ("grpc.http2.max_ping_strikes", 3),
    ("grpc.max_connection_idle_ms", 3_600_000),
    ("grpc.server_handshake_timeout_ms", 10_000),
)


class StartFailed(Exception):
    """The server cannot start; one line, and the exit code that says what kind it is."""

    def __init__(self, code: ExitCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class Server:
    """One member: engine and client port. `start`, then `stop`; both once. For the loop's thread only."""

    def __init__(self, settings: Settings, *, level_max: int = LEVEL_MAX) -> None:
        self.settings = settings
        self._level_max = level_max
        self.client_address = settings.advertise_client
        self.bound_address = self.login_address = ""
        self._api_server: ApiServer | None = None
        self._streams: dict[SessionStream, None] = {}
        self._named: tuple[str, ...] = ()
        """The client addresses that the open streams were last told of."""
        self._ticker: asyncio.Task[None] | None = None
        self._joiner: asyncio.Task[None] | None = None
        self.failed: asyncio.Future[StartFailed] = asyncio.get_running_loop().create_future()
        """Set when the server cannot go on (a definite refusal to join)."""

    async def start(self) -> None:
        """Listen, open the data directory, serve. Raises StartFailed and leaves nothing behind."""
        try:
            credentials = tls.server_credentials(self.settings)
            self._member_credentials = tls.member_channel_credentials(self.settings)
            session_context = tls.session_context(self.settings)
            logins = tls.login_credentials(self.settings) if self.settings.listen_login else None
            peer_tls = tls.peer_tls(self.settings, self._member_hosts)
        except tls.CertificateError as error:
            raise StartFailed(ExitCode.CERTIFICATE, str(error)) from None
        # Before anything is written; gRPC would print lines of its own about a port that is taken.
        probe("listen_client", self.settings.listen_client)
        probe("listen_peer", self.settings.listen_peer)
        if self.settings.listen_login:
            probe("listen_login", self.settings.listen_login)
        if self.settings.session_address:
            probe("listen_session", self.settings.session_address)
        if self.settings.metrics_listen:
            probe("metrics_listen", self.settings.metrics_listen)
        self._grpc = grpc.aio.server(options=SERVER_OPTIONS, maximum_concurrent_rpcs=2 * self.settings.streams_max)
        self.bound_address = self._listen("listen_client", self.settings.listen_client, credentials)
        self.client_address = self.settings.advertise_client or self.bound_address
        if logins is not None:
            self.login_address = self._listen("listen_login", self.settings.listen_login, logins)
        self.engine = Engine(
            EngineSettings(
                data_dir=self.settings.data_dir,
                name=self.settings.name,
                listen_peer=self.settings.listen_peer,
                advertise_peer=self.settings.advertise_peer,
                advertise_client=self.client_address,
                raft=self.settings.raft_config(),
                peer_tls=peer_tls,
                scrub_interval_s=self.settings.scrub_interval_s,
                scrub_bytes_per_s=self.settings.scrub_mib_per_s << 20,
                level_max=self._level_max,
                witness=self.settings.role == "witness",
            )
        )
        self._wire()
        await self._start_engine()
        await self._listen_for_sessions(session_context)
        await self.health.update()
        await self._grpc.start()
        self.engine.subscribe(self.events.listen)
        self.engine.subscribe_role(self._role_changed)
        self._ticker = asyncio.create_task(self._tick(), name="ticker")
        await self._form()

    def _listen(self, setting: str, address: str, credentials: grpc.ServerCredentials | None) -> str:
        """host:port that it listens on."""
        try:
            if credentials is None:
                port = self._grpc.add_insecure_port(address)
            else:
                port = self._grpc.add_secure_port(address, credentials)
        except RuntimeError:
            raise StartFailed(
                ExitCode.ADDRESS_IN_USE,
                f"{setting}: cannot listen on {address}: is it in use, or not an address of this machine?",
            ) from None
        host = address.rpartition(":")[0]
        return f"{host}:{port}"

    async def _listen_for_sessions(self, context: ssl.SSLContext | None) -> None:
        address = self.settings.session_address
        if not address:
            return
        try:
            await self.direct.listen(address, context)
        except OSError as error:
            await self.engine.stop()
            text = f"listen_session: cannot listen on {address}: {error.strerror or error}"
            raise StartFailed(ExitCode.ADDRESS_IN_USE, text) from None

    def _wire(self) -> None:
        engine = self.engine
        self.events = EventHub()
        self.watches = WatchHub(engine, self.settings.watches_max)
        self.events.changes = self.watches.listen
        waiters = RevisionWaiters()
        self.events.revision_waiters = waiters
        self.operations = Operations(engine, waiters, engine.settings.raft.election_timeout_ns)
        self._relay = Relay(self._member_credentials) if self.settings.relay else None
        self.health = Health(engine)
        self.telemetry = Telemetry(self.settings, engine, self.health, self.counts)
        self.operations.meters, self.operations.tracing = self.telemetry.meters, self.telemetry.operations
        admin_calls = AdminCalls(engine, self.counts)
        logins = self._logins() if self.settings.listen_login else None
        self.telemetry.logins = logins
        self.callers = callers = Callers(engine, self.settings.admins, logins)
        full = self.settings.streams_max
        self.direct = DirectPort(self._serve_stream, lambda: len(self._streams) >= full, callers.certified)
        parts = (self.operations, self.events, self.watches, admin_calls, self._relay, self.telemetry, self.direct)
        unary = Unary(engine, *parts, callers)
        self._grpc.add_generic_rpc_handlers(tuple(unary.handlers(self._connect)))
        health_pb2_grpc.add_HealthServicer_to_server(self.health.servicer, self._grpc)
        if self.settings.reflection:
            names = [service.full_name for service in SERVICES]
            reflection.enable_server_reflection((*names, health.SERVICE_NAME, reflection.SERVICE_NAME), self._grpc)

    def _logins(self) -> Logins:
        """Who asks the API server. Raises StartFailed."""
        from lockmaster.server.token_review import ApiServer, Logins  # brings an HTTP client: only where it is used

        url = self.settings.login_api_server
        if not url:
            host, port = (os.environ.get(f"KUBERNETES_SERVICE_{part}", "") for part in ("HOST", "PORT"))
            if not host or not port:
                raise StartFailed(ExitCode.CERTIFICATE, "login_api_server: is empty, and this is no pod of Kubernetes")
            url = f"https://{join_address(host, int(port))}"
        try:
            self._api_server = ApiServer(url, self.settings.login_account)
        except (OSError, ssl.SSLError) as error:
            text = f"login_account: {self.settings.login_account}/ca.crt: {error.strerror or error}"
            raise StartFailed(ExitCode.CERTIFICATE, text) from None
        return Logins(self._api_server.review, self.settings.login_audience)

    async def _start_engine(self) -> None:
        try:
            await self.engine.start()
        except StorageFailed as error:
            raise StartFailed(storage_exit_code(error), in_data_dir(self.settings.data_dir, error)) from None
        except InvariantViolation as error:
            raise StartFailed(ExitCode.INVARIANT, in_data_dir(self.settings.data_dir, error)) from None
        except OSError as error:
            if error.filename is not None:
                text = f"data_dir: {error.filename}: {error.strerror}"
                raise StartFailed(ExitCode.WRONG_DIRECTORY, text) from None
            text = f"listen_peer: cannot listen on {self.settings.listen_peer}: {error.strerror or error}"
            raise StartFailed(ExitCode.ADDRESS_IN_USE, text) from None

    async def _form(self) -> None:
        """Genesis or joining, where this member is blank and was told to."""
        if not self.engine.is_blank:
            return
        if self.settings.bootstrap:
            try:
                cluster_id, _ = await self.engine.bootstrap(self.settings.full_min)
            except PreconditionFailed as error:
                raise StartFailed(ExitCode.WRONG_DIRECTORY, f"bootstrap: {error}") from None
            _log.info("cluster %s begins here", cluster_id.hex())
        elif self.settings.join:
            if self.settings.role == "witness" and self.settings.name not in self.settings.witness_names:
                _log.warning("witness_names does not name this witness: once promoted it stays a full member")
            self._joiner = asyncio.create_task(self._join(), name="joiner")
        else:
            _log.warning("this member is blank: start it with --bootstrap or --join, or add it from another member")

    async def _join(self) -> None:
        try:
            await join(self.engine, self.settings, self.client_address, self._member_credentials)
        except JoinRefused as error:
            if not self.failed.done():
                self.failed.set_result(StartFailed(ExitCode.JOIN_REFUSED, str(error)))

    async def stop(self) -> None:
        """Hand leadership over, send streams elsewhere, let calls end, store, close."""
        for task in (self._joiner, self._ticker):
            if task is not None:
                await end_task(task)
        await self.health.stop()
        if self.engine.is_leader and len(self.engine.status().members) > 1:
            with contextlib.suppress(LockmasterError, TimeoutError):
                async with asyncio.timeout(self.settings.shutdown_grace_s / 4):
                    await self.engine.transfer(0)
        hint = self.engine.leader_address()
        for stream in list(self._streams):
            stream.close("" if hint == self.client_address else hint)
        deadline = asyncio.get_running_loop().time() + min(DRAIN_S, self.settings.shutdown_grace_s / 4)
        while self._streams and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        await self.direct.close()
        await self._grpc.stop(min(DRAIN_S, self.settings.shutdown_grace_s / 4))
        if self._relay is not None:
            await self._relay.close()
        if self._api_server is not None:
            await self._api_server.close()
        await self.engine.stop()
        await asyncio.to_thread(self.telemetry.close)

    # -- what runs while it serves

    async def _connect(self, request_iterator: AsyncIterator[bytes], context: Any) -> None:
        if len(self._streams) >= self.settings.streams_max:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"{self.settings.streams_max} streams are open on this member"
            )
        try:
            caller = await self.callers.identify(context)
        except LockmasterError as error:
            await abort(context, error)
        await self._serve_stream(context, caller)

    async def _serve_stream(self, context: StreamContext, caller: Caller) -> None:
        stream = SessionStream(self.operations, self.engine, self.events, self.watches, Origin(caller.principal))
        self._streams[stream] = None
        stream.name_members(self.engine.client_addresses(), self.client_address)
        closing = functools.partial(stream.close, self.client_address)
        try:
            async with while_good(self.callers.logins, caller, closing):
                await stream.run(context)
        except Unauthenticated as error:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        finally:
            del self._streams[stream]

    def _role_changed(self, leading: bool, leader_address: str) -> None:
        if self.engine.is_witness:
            self.watches.refused()
            for stream in list(self._streams):
                stream.close(leader_address)
            return
        if not leader_address:
            return
        for stream in self._streams:
            if stream.turned_away or (stream.has_sessions and not leading):
                stream.moved(leader_address)

    def _name_members(self) -> None:
        """Tells all streams where clients are served, if that is another than before."""
        addresses = self.engine.client_addresses()
        if addresses != self._named:
            self._named = addresses
            for stream in self._streams:
                stream.name_members(addresses, self.client_address)

    async def _tick(self) -> None:
        turn = 0
        while True:
            await asyncio.sleep(TICK_S)
            turn += 1
            try:
                await self.health.update()
                self._name_members()
                if turn % 4 == 0:
                    self.watches.tick()
                    self.telemetry.refresh()
            except LockmasterError as error:
                _log.debug("tick: %s", error)
            except Exception:
                _log.exception("the ticker failed; it goes on")

    def counts(self) -> tuple[int, int, int]:
        """(sessions, watches, streams) of this member."""
        try:
            sessions = self.engine.machine.sessions_count
        except LockmasterError:
            sessions = 0
        return sessions, len(self.watches), len(self._streams)

    def _member_hosts(self, member_id: int) -> tuple[str, ...]:
        """The hosts under which this member is known; none while it is not known here."""
        if self.engine.is_blank:
            return ()
        member = self.engine.node.configuration.member(member_id)  # type: ignore[arg-type]  # ids are plain ints here
        return () if member is None else (split_address(member.peer_address)[0],)


def probe(setting: str, address: str) -> None:
    """Raises StartFailed unless this address can be listened on now."""
    host, port = split_address(address)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(where)
            # Two sockets may bind one port with SO_REUSEADDR; only one of them may listen.
            trial.listen()
    except OSError as error:
        text = f"{setting}: cannot listen on {address}: {error.strerror or error}"
        raise StartFailed(ExitCode.ADDRESS_IN_USE, text) from None


def in_data_dir(path: Path, error: Exception) -> str:
    """The line about an error of the data directory, which names it once."""
    text = str(error)
    named = re.search(rf"(?:^|\s){re.escape(str(path))}[:/]", text)
    return f"data_dir: {text}" if named else f"data_dir {path}: {text}"


def storage_exit_code(error: StorageFailed) -> ExitCode:
    """What kind of storage error it is, for the parent of this process."""
    if isinstance(error, Amnesia):
        return ExitCode.AMNESIA
    if isinstance(error, WrongFormat):
        return ExitCode.WRONG_DIRECTORY
    if isinstance(error, DirectoryBusy):
        return ExitCode.BUSY
    return ExitCode.CORRUPT if isinstance(error, CorruptLog) else ExitCode.STORAGE_FAILED


async def _run(settings: Settings, ready: Callable[[], None] | None) -> int:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    server = Server(settings)
    await server.start()
    sessions = f"port {server.direct.number}" if server.direct.number else "gRPC alone"
    _log.info(
        "member %s serves clients on %s, session streams on %s, peers on %s",
        settings.name,
        server.bound_address,
        sessions,
        server.engine.peer_address,
    )
    if ready is not None:
        ready()
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 20, 20)
    waiter = asyncio.create_task(stopping.wait())
    ends: set[asyncio.Future[Any]] = {waiter, server.failed}
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    _log.info("stopping")
    await server.stop()
    if server.failed.done():
        raise server.failed.result()
    return ExitCode.OK


def serve(settings: Settings, ready: Callable[[], None] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; `ready` is called once both ports listen.

    Returns an ExitCode; what went wrong is one line on stderr.
    """
    configure_logging(settings)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where the starter ignored it, a child that failed seems to do well
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return int(runner.run(_run(settings, ready)))
    except StartFailed as error:
        print(f"lockmaster: {error}", file=sys.stderr)
        return int(error.code)
    except StorageFailed as error:  # the last flush or mark, on the way out: the journal has all acknowledged writes
        print(f"lockmaster: {in_data_dir(settings.data_dir, error)}", file=sys.stderr)
        return int(storage_exit_code(error))


def serve_dev(data_dir: Path, listen_client: str = "127.0.0.1:7420", listen_peer: str = "127.0.0.1:0") -> int:
    """A cluster of one member for development: plaintext on loopback."""
    return serve(dev_settings(data_dir, listen_client, listen_peer))


def dev_settings(data_dir: Path, listen_client: str = "127.0.0.1:0", listen_peer: str = "127.0.0.1:0") -> Settings:
    """Settings of a cluster of one member on loopback, also for tests; port 0 picks a free one."""
    return Settings(
        data_dir=data_dir,
        name="dev",
        listen_client=listen_client,
        listen_peer=listen_peer,
        insecure=True,
        bootstrap=True,
        full_min=1,
        profile="fast",
    )
