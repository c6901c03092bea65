"""Versioned configuration for users: `client.config(namespace)`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from lockmaster.api import config_pb2
from lockmaster.client.consistency import LINEARIZABLE, Consistency, read_options
from lockmaster.client.watching import Change, Item, Watching, change_of, item_of
from lockmaster.errors import Compacted, CompareFailed

if TYPE_CHECKING:
    from lockmaster.client.async_client import AsyncClient
    from lockmaster.client.locks import Held

PAGE = 1_000
UPDATE_ATTEMPTS_MAX = 100


def _bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _guard(held: Held | None) -> config_pb2.Guard | None:
    return None if held is None else config_pb2.Guard(lock=held.name, token=held.fencing_token)


class Watch:
    """An endless iterator of changes: whole, ordered, without gap or duplicate, across reconnects.

    One reader. Ends by `aclose()`, by leaving `async with`, or with an error that is definite.
    """

    def __init__(self, client: AsyncClient, namespace: str, key: str, prefix: bool, start: int, previous: bool) -> None:
        self._client = client
        self._namespace = namespace
        self._key = key
        self._prefix = prefix
        self._start = start
        self._previous = previous
        self._watching: Watching | None = None
        self._reader: asyncio.Future[None] | None = None
        self._closed = False

    @property
    def revision(self) -> int:
        """Everything up to this revision has been delivered or queued here; 0 before the first change was asked for."""
        return self._watching.delivered if self._watching is not None else 0

    async def start(self) -> Watch:
        """Begins watching now, not at the first change asked for."""
        if self._watching is not None or self._closed:
            return self
        known, revision = await self._known()
        core = self._client.core()
        self._watching = Watching(
            self._namespace,
            self._key,
            prefix=self._prefix,
            delivered=revision,
            known=known,
            previous=self._previous,
            notify=self._notify,
            next_id=self._client.next_watch_id,
        )
        self._watching.begin(core)
        return self

    async def _known(self) -> tuple[dict[str, int], int]:
        """{key: mod_revision} at the start and the start's revision: what a RESET is compared with."""
        at = max(0, self._start - 1)
        config = Config(self._client, self._namespace)
        try:
            items, revision = await config.scan(self._key, exact=not self._prefix, keys_only=True, at_revision=at)
        except Compacted:
            # The server will answer with a RESET, and everything in it is news.
            return {}, at
        return {item.key: item.revision for item in items}, at or revision

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Change:
        watching = self._watching
        if watching is None:
            await self.start()
            watching = self._watching
        while watching is not None and not self._closed:
            if watching.changes:
                change = watching.changes.popleft()
                return change
            if watching.error is not None:
                raise watching.error
            core = self._client.core()
            watching.resume(core)
            self._reader = self._client.loop.create_future()
            await self._reader
        raise StopAsyncIteration

    def _notify(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def aclose(self) -> None:
        """Ends the watch; a reader that waits gets StopAsyncIteration."""
        self._closed = True
        if self._watching is not None and self._client.alive:
            self._watching.end(self._client.core())
        self._notify()

    async def __aenter__(self) -> Watch:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class Config:
    """The keys of one namespace."""

    def __init__(self, client: AsyncClient, namespace: str) -> None:
        self._client = client
        self.namespace = namespace

    async def get(self, key: str, *, at_revision: int = 0, consistency: Consistency = LINEARIZABLE) -> Item | None:
        """The key's value now, as fresh as `consistency` says, or as it was at a revision; None if it does not exist.

        Raises Compacted if history at that revision is gone, Unavailable if no member meets the bound in time.
        """
        read = read_options(consistency)
        request = config_pb2.GetRequest(namespace=self.namespace, key=key, at_revision=at_revision, read=read)
        answer = await self._client.read("get", request)
        return item_of(answer.item) if answer.HasField("item") else None

    async def put(
        self,
        key: str,
        value: bytes | str,
        *,
        if_revision: int | None = None,
        guard: Held | None = None,
        author: str = "",
        comment: str = "",
        ephemeral: bool = False,
    ) -> int:
        """Writes a value of at most 1 MiB and returns its revision; exactly once.

        `if_revision`: only if the key's revision is this, 0: only if it does not exist (else CompareFailed).
        `guard`: only if that lock is still held, checked in the same log entry (else NotHeld). `ephemeral`: deleted
        when this client's session ends. Raises Indeterminate if the answer was lost with the session.
        """
        value = _bytes(value)
        request = config_pb2.PutRequest(
            namespace=self.namespace,
            key=key,
            value=value,
            if_revision=if_revision,
            guard=_guard(guard),
            author=author,
            comment=comment,
            ephemeral=ephemeral,
        )
        revision: int = (await self._client.mutate("put", request, len(value))).revision
        return revision

    async def update(
        self,
        key: str,
        change: Callable[[bytes | None], bytes | str],
        *,
        if_revision: int | None = None,
        guard: Held | None = None,
        author: str = "",
        comment: str = "",
    ) -> Item:
        """Reads, changes and writes a key as one step: `change` gets the value (None: no key) and returns the new one.

        If somebody else wrote meanwhile, `change` runs again on the newer value; with `if_revision` CompareFailed is
        raised instead. Returns what was written.
        """
        for _ in range(UPDATE_ATTEMPTS_MAX):
            item = await self.get(key)
            revision = item.revision if item is not None else 0
            if if_revision is not None and revision != if_revision:
                raise CompareFailed(revision)
            value = _bytes(change(item.value if item is not None else None))
            try:
                written = await self.put(key, value, if_revision=revision, guard=guard, author=author, comment=comment)
            except CompareFailed:
                if if_revision is not None:
                    raise
                continue
            created, version = (item.create_revision, item.version + 1) if item is not None else (written, 1)
            return Item(self.namespace, key, value, written, created, version, author, comment)
        raise CompareFailed(revision)

    async def delete(
        self,
        key: str,
        *,
        if_revision: int | None = None,
        guard: Held | None = None,
        author: str = "",
        comment: str = "",
    ) -> bool:
        """Deletes a key; True if it existed. Conditions as in put."""
        request = config_pb2.DeleteRequest(
            namespace=self.namespace,
            key=key,
            if_revision=if_revision,
            guard=_guard(guard),
            author=author,
            comment=comment,
        )
        deleted: bool = (await self._client.mutate("delete", request)).deleted
        return deleted

    async def range(
        self,
        prefix: str = "",
        *,
        limit: int | None = None,
        at_revision: int = 0,
        consistency: Consistency = LINEARIZABLE,
    ) -> list[Item]:
        """The keys that start with `prefix`, in order, all from one revision; at most `limit` if given."""
        items, _ = await self.scan(prefix, at_revision=at_revision, limit=limit, consistency=consistency)
        return items

    async def scan(
        self,
        prefix: str = "",
        *,
        exact: bool = False,
        keys_only: bool = False,
        at_revision: int = 0,
        limit: int | None = None,
        consistency: Consistency = LINEARIZABLE,
    ) -> tuple[list[Item], int]:
        """Like range, with the revision that all of it is from. `exact`: only the key that equals `prefix`."""
        read = read_options(consistency)
        if exact:
            request = config_pb2.GetRequest(namespace=self.namespace, key=prefix, at_revision=at_revision, read=read)
            answer = await self._client.read("get", request)
            return ([item_of(answer.item)] if answer.HasField("item") else []), answer.revision
        items: list[Item] = []
        after = ""
        revision = at_revision
        while True:
            page = PAGE if limit is None else min(PAGE, limit - len(items))
            range_request = config_pb2.RangeRequest(
                namespace=self.namespace,
                prefix=prefix,
                after=after,
                limit=page,
                keys_only=keys_only,
                at_revision=revision,
                read=read,
            )
            answer = await self._client.read("range", range_request)
            items.extend(item_of(item) for item in answer.items)
            revision = revision or answer.revision
            if not answer.more or not answer.items or (limit is not None and len(items) >= limit):
                return items, revision
            after = answer.items[-1].key

    async def history(
        self, key: str = "", *, limit: int = 100, before: int = 0, consistency: Consistency = LINEARIZABLE
    ) -> list[Change]:
        """Past writes and deletions of a key ("": of the namespace), newest first, from below revision `before`."""
        changes: list[Change] = []
        read = read_options(consistency)
        while len(changes) < limit:
            page = min(PAGE, limit - len(changes))
            request = config_pb2.HistoryRequest(namespace=self.namespace, key=key, before=before, limit=page, read=read)
            answer = await self._client.read("history", request)
            changes.extend(change_of(change) for change in answer.changes)
            if not answer.more or not answer.changes:
                break
            before = answer.changes[-1].item.mod_revision
        return changes

    def watch(
        self, key: str = "", *, prefix: str | None = None, from_revision: int = 0, previous: bool = False
    ) -> Watch:
        """The changes from now on, or from a revision: of one key, of a prefix, or (neither) of the namespace.

        Gap-free: resumes by itself after a lost connection. Where the server no longer has the history, what changed
        meanwhile is told as one change per key, marked `coalesced`.
        """
        if key and prefix is not None:
            raise ValueError("give key or prefix, not both")
        if key:
            return Watch(self._client, self.namespace, key, False, from_revision, previous)
        return Watch(self._client, self.namespace, prefix or "", True, from_revision, previous)
