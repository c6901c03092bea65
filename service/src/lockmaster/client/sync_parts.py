"""What the synchronous client needs beyond its generated facade: the thread with the loop, Lock and Watch.

The sync client is the async client on a loop in a thread of its own: one implementation, one set of guarantees. A
call costs two thread switches on top. KeyboardInterrupt while waiting cancels the call, which withdraws its place.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

from lockmaster.client import locks as async_locks
from lockmaster.client.clock import suspend_clock
from lockmaster.client.typed import TypedChange
from lockmaster.client.watching import Change
from lockmaster.errors import ForkedClient, LockBusy, LockmasterError, LockTimeout, NotHeld, Unavailable

if TYPE_CHECKING:
    from lockmaster.client.sync_client import Held

T = TypeVar("T")
C = TypeVar("C")
C_co = TypeVar("C_co", covariant=True)

STOP_SECONDS_MAX = 10.0


class Portal:
    """A thread that runs an event loop. Callers in other threads wait for what they hand to it."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._touched_at = suspend_clock()

    def touch(self) -> None:
        """A thread of the user shows that it is not stuck."""
        self._touched_at = suspend_clock()

    def touched(self) -> float:
        """When one last did, on the clock that validity is counted on."""
        return self._touched_at

    def loop(self) -> asyncio.AbstractEventLoop:
        """The running loop; the thread starts with the first call. Raises ForkedClient, Unavailable if closed."""
        if os.getpid() != self._pid:
            raise ForkedClient("this client was made before a fork: make a new one in the child")
        if self._closed:
            raise Unavailable("this client is closed")
        self._touched_at = suspend_clock()
        if self._loop is None:
            with self._lock:
                if self._loop is None:
                    loop = asyncio.new_event_loop()
                    self._thread = threading.Thread(target=self._serve, args=(loop,), name="lockmaster", daemon=True)
                    self._thread.start()
                    self._loop = loop
        if threading.current_thread() is self._thread:
            raise RuntimeError("a callback of this client may not call it back and wait: use another thread")
        return self._loop

    @staticmethod
    def _serve(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            # A watch's reader in another thread, or a call that was abandoned, may still wait on this loop.
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left, timeout=STOP_SECONDS_MAX / 2))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    def run(
        self, coroutine: Coroutine[Any, Any, T], undo: Callable[[T], Coroutine[Any, Any, object]] | None = None
    ) -> T:
        """Runs a coroutine to its end and returns its result.

        If this thread is interrupted while it waits, the coroutine is cancelled; if it had a result all the same,
        `undo` gets it.
        """
        try:
            loop = self.loop()
        except BaseException:
            coroutine.close()
            raise
        outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
        tasks: list[asyncio.Task[T]] = []
        abandoned = False

        def start() -> None:
            task = loop.create_task(coroutine)
            tasks.append(task)
            task.add_done_callback(finish)

        def finish(task: asyncio.Task[T]) -> None:
            if task.cancelled():
                outcome.cancel()
            elif (error := task.exception()) is not None:
                outcome.set_exception(error)
            elif abandoned and undo is not None:
                loop.create_task(_quietly(undo(task.result())))
            else:
                outcome.set_result(task.result())

        def abandon() -> None:
            nonlocal abandoned
            task = tasks[0]
            if not task.done():
                abandoned = True
                task.cancel()
            elif undo is not None and not task.cancelled() and task.exception() is None:
                loop.create_task(_quietly(undo(task.result())))

        loop.call_soon_threadsafe(start)
        try:
            return outcome.result()
        except concurrent.futures.CancelledError:
            raise Unavailable("the client was closed") from None
        except BaseException:
            if not outcome.done() or outcome.exception() is None:
                loop.call_soon_threadsafe(abandon)
            raise

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Runs a function on the loop's thread and returns its result."""

        async def run() -> T:
            return function(*args)

        return self.run(run())

    def close(self) -> None:
        """Stops the loop and ends the thread."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        loop, thread = self._loop, self._thread
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(STOP_SECONDS_MAX)

    @property
    def closed(self) -> bool:
        """True once closed, and in a fork's child."""
        return self._closed or os.getpid() != self._pid


async def _quietly(coroutine: Coroutine[Any, Any, object]) -> None:
    with contextlib.suppress(LockmasterError):
        await coroutine


async def _give_back(held: async_locks.Held) -> None:
    await held.release()


def leave(held: Held, error: BaseException | None) -> None:
    """Releases at the end of a `with` body that ended with `error`; both errors survive."""
    try:
        held.release()
    except LockmasterError as failure:
        if error is None:
            raise
        async_locks.join_errors(error, failure, held.name)


class Lock:
    """A named exclusive lock, first come, first served across the cluster. Not reentrant.

    `with client.lock(name, timeout=5) as held:` raises LockTimeout and never runs the body unheld. It also has the
    methods of threading.Lock: acquire, release, locked.
    """

    def __init__(self, portal: Portal, inner: async_locks.Lock, wrap: Callable[[async_locks.Held], Held]) -> None:
        self._portal = portal
        self._inner = inner
        self._wrap = wrap
        self._entered: dict[int, Held] = {}
        self._acquired: list[Held] = []

    @property
    def name(self) -> str:
        """The lock's name."""
        return self._inner.name

    def _hold(self, timeout: float | None) -> Held:
        return self._wrap(self._portal.run(self._inner.acquire(timeout), undo=_give_back))

    def acquire(self, blocking: bool = True, timeout: float = -1) -> Held | None:
        """Like threading.Lock's: something true when acquired (the Held), None when the time ran out.

        `timeout` -1: the Lock's own, which by default is without end. Raises other errors as the async client does.
        """
        if not blocking and timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        if timeout < 0 and timeout != -1:
            raise ValueError("timeout value must be a non-negative number")
        try:
            held = self._hold(None if timeout == -1 else timeout) if blocking else self._hold(0)
        except (LockTimeout, LockBusy):
            return None
        self._acquired.append(held)
        return held

    def try_acquire(self) -> Held | None:
        """The lock if it is free now, else None. Given back by the Held, not by this Lock."""
        held = self._portal.run(self._inner.try_acquire(), undo=_give_back_if_any)
        return None if held is None else self._wrap(held)

    def release(self) -> None:
        """Gives back what `acquire` got, from any thread. Raises NotHeld (a RuntimeError) if there is nothing."""
        try:
            held = self._acquired.pop()
        except IndexError:
            raise NotHeld(f"release of lock {self.name!r}, which this Lock has not acquired") from None
        held.release()

    def locked(self) -> bool:
        """True while this Lock object holds the lock; `client.locks.inspect` tells about others."""
        return any(held.valid for held in [*self._acquired, *self._entered.values()])

    def __enter__(self) -> Held:
        held = self._hold(None)
        self._entered[threading.get_ident()] = held
        return held

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        leave(self._entered.pop(threading.get_ident()), error)


async def _give_back_if_any(held: async_locks.Held | None) -> None:
    if held is not None:
        await held.release()


class _AnyWatch(Protocol[C_co]):
    """What both asynchronous watches have."""

    @property
    def revision(self) -> int: ...

    async def start(self) -> object: ...

    async def aclose(self) -> None: ...

    async def __anext__(self) -> C_co: ...


class _Watch(Generic[C]):
    """An endless iterator of changes: whole, ordered, without gap or duplicate, across reconnects."""

    def __init__(self, portal: Portal, inner: _AnyWatch[C]) -> None:
        self._portal = portal
        self._inner = inner

    @property
    def revision(self) -> int:
        """Everything up to this revision has been delivered or queued here."""
        return self._inner.revision

    def start(self) -> Self:
        """Begins watching now, not at the first change asked for."""
        self._portal.run(self._inner.start())
        return self

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> C:
        change = self._portal.run(_next(self._inner))
        if change is None:
            raise StopIteration
        return change

    def close(self) -> None:
        """Ends the watch; a reader in another thread gets StopIteration."""
        if not self._portal.closed:
            self._portal.run(self._inner.aclose())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Watch(_Watch[Change]):
    """The changes of a key, a prefix or a namespace, without end."""


class TypedWatch(_Watch[TypedChange[T]]):
    """The changes of a configuration object, without end."""


async def _next(watch: _AnyWatch[C]) -> C | None:
    # StopAsyncIteration can't leave a task's coroutine as a result can.
    try:
        return await watch.__anext__()
    except StopAsyncIteration:
        return None
