"""Renews the session from a thread of its own, over a channel of its own.

So a blocked event loop doesn't lose its locks silently, and a hung one doesn't keep them for ever: each round asks
the loop to answer, and after `stall_max` seconds without an answer the session is not renewed any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

import grpc

from lockmaster.api import session_pb2
from lockmaster.client.endpoints import TLS, channel_options, dialled
from lockmaster.client.failures import error_of_rpc
from lockmaster.client.holds import Session
from lockmaster.client.patience import Patience
from lockmaster.errors import NotLeader, SessionExpired

KEEP_ALIVE_METHOD = "/lockmaster.v1.Sessions/KeepAlive"
SLEEP_SECONDS_MAX = 1.0
CALL_SECONDS_MAX = 2.0
RETRY_SECONDS = 0.1


class Keepalive:
    """One daemon thread per client with a session. Ends by `stop`, by the session's end, or with a fork's child."""

    def __init__(
        self,
        session: Session,
        *,
        endpoints: tuple[str, ...],
        tls: TLS | None,
        loop: asyncio.AbstractEventLoop,
        stall_max: float,
        patience: Patience,
        expired: Callable[[Session], None],
        clock: Callable[[], float],
        touched: Callable[[], float] | None = None,
        interval: float | None = None,
    ) -> None:
        self.stalled = False
        self._session = session
        self._endpoints = endpoints
        self._tls = tls
        self._fingerprint = tls.fingerprint() if tls is not None else b""
        self._loop = loop
        self._stall_max = stall_max
        self._expired = expired
        self._clock = clock
        self._touched = touched
        self._interval = interval if interval is not None else session.ttl / 3
        self._answered_at = clock()
        self._stop = threading.Event()
        self._turn = 0
        self._address = endpoints[0]
        self._patience = patience
        self._unreached = ""
        """Could not be connected: hints that lead back to it are not followed until its next turn."""
        self._channel: grpc.Channel | None = None
        self._thread = threading.Thread(target=self._run, name="lockmaster-keepalive", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Tells the thread to end; doesn't wait."""
        self._stop.set()

    def join(self, timeout: float) -> None:
        """Waits until the thread has ended."""
        self._thread.join(timeout)

    def _answered(self) -> None:
        self._answered_at = self._clock()

    def _run(self) -> None:
        session = self._session
        # An open that had to be repeated has used up some of the session's time: renew at once then.
        late = session.valid_until - self._clock() < session.ttl / 2
        due = self._clock() + (0.0 if late else self._interval)
        while not session.ended and not self._loop.is_closed():
            # Short sleeps: the condition's clock stands still while the machine is suspended, ours doesn't.
            left = due - self._clock()
            if self._stop.wait(min(max(left, 0.0), SLEEP_SECONDS_MAX)):
                break
            if self._clock() < due:
                continue
            if not self._loop_answers():
                due = self._clock() + min(RETRY_SECONDS * 5, self._interval)
                continue
            due = self._clock() + (self._interval if self._renew() else min(RETRY_SECONDS, self._interval))
        if self._channel is not None:
            self._channel.close()

    def _loop_answers(self) -> bool:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._answered)
        last = self._answered_at if self._touched is None else min(self._answered_at, self._touched())
        self.stalled = self._clock() - last > self._stall_max
        return not self.stalled

    def _renew(self) -> bool:
        """One attempt. True if the session was renewed, or is known to be over."""
        session = self._session
        sent = self._clock()
        try:
            answer = self._call(session_pb2.KeepAliveRequest(session_ids=[session.id]))
        except grpc.RpcError as error:
            return self._failed(error_of_rpc(error))
        except OSError:
            return self._failed(None)
        if session.id in answer.expired:
            self._tell_expired()
        else:
            session.renewed(sent)
        return True

    def _call(self, request: session_pb2.KeepAliveRequest) -> session_pb2.KeepAliveResponse:
        if self._tls is not None and (now := self._tls.fingerprint()) and now != self._fingerprint:
            self._fingerprint = now
            self._forget_channel()
        if self._channel is None:
            allowed = self._patience.seconds(self._address)
            options = channel_options(allowed)
            if self._tls is None:
                self._channel = grpc.insecure_channel(self._address, options=options)
            else:
                address = dialled(self._address, self._endpoints[0], self._tls)
                self._channel = grpc.secure_channel(address, self._tls.credentials(), options=options)
            self._connect(self._channel, allowed)
        method = self._channel.unary_unary(
            KEEP_ALIVE_METHOD,
            request_serializer=session_pb2.KeepAliveRequest.SerializeToString,
            response_deserializer=session_pb2.KeepAliveResponse.FromString,
        )
        answer: session_pb2.KeepAliveResponse = method(request, timeout=min(CALL_SECONDS_MAX, self._interval))
        return answer

    def _connect(self, channel: grpc.Channel, allowed: float) -> None:
        """Returns once it is up; ConnectionError when it is refused or takes longer than `allowed` seconds."""
        ended, states = threading.Event(), list[grpc.ChannelConnectivity]()

        def changed(state: grpc.ChannelConnectivity) -> None:
            states.append(state)
            if state not in (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING):
                ended.set()

        began = self._clock()
        channel.subscribe(changed, try_to_connect=True)
        try:
            ended.wait(allowed)
        finally:
            channel.unsubscribe(changed)
        took = self._clock() - began
        if states[-1:] != [grpc.ChannelConnectivity.READY]:
            self._patience.failed(self._address, took, allowed)
            self._unreached = self._address
            raise ConnectionError("cannot connect")
        self._patience.reached(self._address, took)

    def _failed(self, error: Exception | None) -> bool:
        if isinstance(error, SessionExpired):
            self._tell_expired()
            return True
        self._forget_channel()
        if isinstance(error, NotLeader) and error.leader_hint not in ("", self._unreached):
            self._address = error.leader_hint
        else:
            self._turn = (self._turn + 1) % len(self._endpoints)
            self._address = self._endpoints[self._turn]
            if self._address == self._unreached:
                self._unreached = ""  # its turn, and then hints lead to it again
        return False

    def _forget_channel(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def _tell_expired(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._expired, self._session)
