"""Configuration as an object: `client.config(namespace, model=Settings)`, where one key holds the whole model as JSON.

`model` is a pydantic model, a dataclass, or any other type that pydantic can validate. One key, so that a change of
several fields is one revision and compare-and-set covers them all. Laws:

- what is written can be read back: the JSON of a value is validated before it is sent;
- a value that does not fit the model is never handed out: ConfigMismatch names the key and the path in it;
- `current` never goes back to an older revision, and keeps the last value that fitted.

pydantic is loaded by the first use of `model=` and is not part of the base install: pip install "lockmaster[typed]".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lockmaster.client.config import Config, Watch
from lockmaster.client.consistency import LINEARIZABLE, Consistency
from lockmaster.client.watching import Change
from lockmaster.errors import ConfigMismatch, LockmasterError, NotFound, Unavailable

if TYPE_CHECKING:
    from lockmaster.client.locks import Held

T = TypeVar("T")

SETTINGS_KEY = "settings"
"""The key that holds the model unless another one is named."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Versioned(Generic[T]):
    """A value and the revision that wrote it; revision 0: nothing is written, these are the model's own defaults."""

    value: T
    revision: int


@dataclass(frozen=True, slots=True)
class TypedChange(Generic[T]):
    """The model's key was written or deleted; `change` is the same as the untyped watch tells it."""

    change: Change
    outcome: T | LockmasterError
    """The value; after a deletion the model's defaults; or why there is none."""

    @property
    def revision(self) -> int:
        """The revision of the change."""
        return self.change.revision

    @property
    def coalesced(self) -> bool:
        """Stands for any number of changes since the last one."""
        return self.change.coalesced

    @property
    def value(self) -> T:
        """The value from this revision on. Raises ConfigMismatch, or NotFound after a deletion without defaults."""
        if isinstance(self.outcome, LockmasterError):
            raise self.outcome
        return self.outcome


class Schema(Generic[T]):
    """Between a model and its JSON."""

    def __init__(self, model: type[T], namespace: str, key: str) -> None:
        try:
            import pydantic
        except ModuleNotFoundError:
            raise ModuleNotFoundError('config(model=…) needs pydantic: pip install "lockmaster[typed]"') from None
        self._adapter: Any = pydantic.TypeAdapter(model)
        self._invalid = pydantic.ValidationError
        self._where = (namespace, key)

    def decode(self, data: bytes, revision: int = 0) -> T:
        """The value of this JSON. Raises ConfigMismatch."""
        try:
            value: T = self._adapter.validate_json(data)
        except self._invalid as error:
            raise self._mismatch(error, revision) from None
        return value

    def encode(self, value: T) -> bytes:
        """The JSON of this value. Raises ConfigMismatch if it would not be read back."""
        try:
            data: bytes = self._adapter.dump_json(value, by_alias=True, warnings="error")
            self._adapter.validate_json(data)
        except self._invalid as error:
            raise self._mismatch(error, 0) from None
        except (ValueError, TypeError) as error:
            raise ConfigMismatch(*self._where, 0, " ".join(str(error).split())) from None
        return data

    def default(self) -> T:
        """The model's own defaults. Raises NotFound if a field has none."""
        try:
            value: T = self._adapter.validate_json(b"{}")
        except self._invalid:
            namespace, key = self._where
            raise NotFound(f"no key {key!r} in {namespace!r}, and the model has fields without a default") from None
        return value

    def _mismatch(self, error: Any, revision: int) -> ConfigMismatch:
        # Never the input: it may be a secret.
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        return ConfigMismatch(*self._where, revision, f"{path}: {first['msg']}" if path else str(first["msg"]))


class TypedWatch(Generic[T]):
    """An endless iterator of changes of the model: ordered, without gap or duplicate, across reconnects. One reader."""

    def __init__(self, config: TypedConfig[T], inner: Watch) -> None:
        self._config = config
        self._inner = inner

    @property
    def revision(self) -> int:
        """Everything up to this revision has been delivered or queued here; 0 before the first change was asked for."""
        return self._inner.revision

    async def start(self) -> TypedWatch[T]:
        """Begins watching now, not at the first change asked for."""
        await self._inner.start()
        return self

    def __aiter__(self) -> TypedWatch[T]:
        return self

    async def __anext__(self) -> TypedChange[T]:
        return self._config._changed(await anext(self._inner))

    async def aclose(self) -> None:
        """Ends the watch; a reader that waits gets StopAsyncIteration."""
        await self._inner.aclose()

    async def __aenter__(self) -> TypedWatch[T]:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class TypedConfig(Generic[T]):
    """One configuration object, read and written as its model."""

    def __init__(self, config: Config, model: type[T], key: str) -> None:
        self.namespace = config.namespace
        self.key = key
        self._config = config
        self._schema = Schema(model, config.namespace, key)
        self._current: Versioned[T] | None = None
        # The newest revision of which anything is known here. current.revision <= _seen.
        self._seen = 0
        self._watch: TypedWatch[T] | None = None
        self._follower: asyncio.Task[None] | None = None

    @property
    def current(self) -> Versioned[T]:
        """The newest value that this object has seen, without waiting: for hot paths, from any thread.

        Kept up to date after `start()`; else as new as the last get, put, update or watched change. A newer value that
        does not fit the model leaves it as it was. Raises NotFound if nothing has been seen yet.
        """
        current = self._current
        if current is None:
            raise NotFound("nothing has been read yet: call start() or get() first")
        return current

    @property
    def following(self) -> bool:
        """True while `current` is kept up to date: from `start()` until the end of this object or of the client."""
        return self._follower is not None and not self._follower.done()

    async def get(self, *, at_revision: int = 0, consistency: Consistency = LINEARIZABLE) -> Versioned[T]:
        """The value now, as fresh as `consistency` says, or as it was at a revision; the model's defaults if no key is.

        Raises ConfigMismatch if it does not fit the model, NotFound if there is no key and a field has no default,
        Compacted if history at that revision is gone.
        """
        items, revision = await self._config.scan(
            self.key, exact=True, at_revision=at_revision, consistency=consistency
        )
        if items:
            found = Versioned(self._schema.decode(items[0].value, items[0].revision), items[0].revision)
        else:
            found = Versioned(self._schema.default(), 0)
        if not at_revision:
            self._saw(revision, found)
        return found

    async def put(
        self,
        value: T,
        *,
        if_revision: int | None = None,
        guard: Held | None = None,
        author: str = "",
        comment: str = "",
    ) -> Versioned[T]:
        """Writes the whole model and returns it with its revision; exactly once. Conditions as in Config.put.

        Raises ConfigMismatch, before anything is sent, for a value that would not be read back.
        """
        data = self._schema.encode(value)
        revision = await self._config.put(
            self.key, data, if_revision=if_revision, guard=guard, author=author, comment=comment
        )
        return self._saw(revision, Versioned(self._schema.decode(data), revision))

    async def update(
        self,
        change: Callable[[T], T],
        *,
        if_revision: int | None = None,
        guard: Held | None = None,
        author: str = "",
        comment: str = "",
    ) -> Versioned[T]:
        """Reads, changes and writes the model as one step: `change` gets the value and returns the new one.

        If somebody else wrote meanwhile, `change` runs again on the newer value; with `if_revision` CompareFailed is
        raised instead. Without a key it gets the model's defaults (revision 0). Returns what was written.
        """

        def on_bytes(data: bytes | None) -> bytes:
            before = self._schema.default() if data is None else self._schema.decode(data)
            return self._schema.encode(change(before))

        item = await self._config.update(
            self.key, on_bytes, if_revision=if_revision, guard=guard, author=author, comment=comment
        )
        return self._saw(item.revision, Versioned(self._schema.decode(item.value), item.revision))

    def watch(self, *, from_revision: int = 0) -> TypedWatch[T]:
        """The changes from now on, or from a revision; gap-free, like Config.watch.

        A value that does not fit the model ends nothing: that change's `value` raises ConfigMismatch.
        """
        return TypedWatch(self, self._config.watch(self.key, from_revision=from_revision))

    async def start(self) -> TypedConfig[T]:
        """Reads the value and keeps `current` up to date from now on. Raises what `get` raises; then nothing runs."""
        if self.following:
            return self
        watch = await self.watch().start()
        try:
            await self.get()
        except BaseException:
            await watch.aclose()
            raise
        self._watch = watch
        self._follower = asyncio.create_task(self._follow(watch), name=f"lockmaster-config {self.namespace}")
        return self

    async def _follow(self, watch: TypedWatch[T]) -> None:
        try:
            async for change in watch:
                if isinstance(change.outcome, ConfigMismatch):
                    logger.warning("%s; the last value that fitted stays in use", change.outcome)
        except Unavailable:
            return  # the client was closed
        except LockmasterError as error:
            logger.warning("configuration %s/%s is no longer followed: %s", self.namespace, self.key, error)

    async def aclose(self) -> None:
        """Ends what `start` began; `current` stays as it is."""
        if self._watch is not None and self._follower is not None:
            await self._watch.aclose()
            await asyncio.wait([self._follower])

    async def __aenter__(self) -> TypedConfig[T]:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _changed(self, change: Change) -> TypedChange[T]:
        """The model's view of a change; `current` moves on with it."""
        try:
            if change.kind == "delete":
                now = Versioned(self._schema.default(), 0)
            else:
                now = Versioned(self._schema.decode(change.item.value, change.revision), change.revision)
        except LockmasterError as error:
            self._seen = max(self._seen, change.revision)
            return TypedChange(change, error)
        self._saw(change.revision, now)
        return TypedChange(change, now.value)

    def _saw(self, revision: int, now: Versioned[T]) -> Versioned[T]:
        if revision >= self._seen:
            self._seen, self._current = revision, now
        return now
