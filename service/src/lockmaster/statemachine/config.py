"""Versioned configuration: every write is kept under its revision until compaction.

A live key has a Head that says which version is the newest; versions, deletions included, lie under (namespace, key,
revision), and each namespace has its list of changes by revision, from which watches resume.

Law (compaction to R): what is left answers every read at a revision >= R, and every change >= R is still listed.
"""

from __future__ import annotations

from typing import Final

from lockmaster.statemachine.commands import (
    CommandKind,
    Compact,
    ConfigChanged,
    Dedup,
    Delete,
    KeyValue,
    Put,
    Result,
    ResultStatus,
)
from lockmaster.statemachine.limits import fits, is_text
from lockmaster.statemachine.locks import window_of
from lockmaster.statemachine.records import (
    CHANGES,
    EPHEMERAL,
    HEADS,
    LOCKS,
    NAMESPACES,
    VERSIONS,
    WINDOWS,
    Change,
    Head,
    Namespace,
    text_stem,
)
from lockmaster.statemachine.table import Context, Kind
from lockmaster.statemachine.wire import U64, Reader, pack_bytes, pack_text


def version_at(item: KeyValue | None, namespace: str, key: str, revision: int) -> KeyValue | None:
    """Fill in what a version's record leaves to its key."""
    if item is not None and not item.key:
        item.namespace, item.key, item.mod_revision = namespace, key, revision
    return item


def _refusal(context: Context, operation: Put | Delete, head: Head | None) -> Result | None:
    """Why the operation's conditions refuse it, or None."""
    current = head.mod_revision if head is not None else 0
    if operation.guard_lock:
        lock = context.view.get(LOCKS, operation.guard_lock)
        if lock is None or not lock.token or lock.token != operation.guard_token:
            return Result(ResultStatus.GUARD_FAILED, current)
    if operation.if_revision is not None and operation.if_revision != current:
        return Result(ResultStatus.COMPARE_FAILED, current)
    return None


def _is_valid(context: Context, operation: Put | Delete) -> bool:
    limits = context.limits
    return (
        is_text(operation.namespace, limits.namespace_bytes_max)
        and is_text(operation.key, limits.key_bytes_max)
        and is_text(operation.guard_lock, limits.name_bytes_max, bytes_min=0)
        and fits(operation.author, limits.author_bytes_max)
        and fits(operation.comment, limits.comment_bytes_max)
    )


def execute_put(context: Context, operation: Put, dedup: Dedup | None) -> Result:
    """Write a version."""
    if not _is_valid(context, operation) or len(operation.value) > context.limits.value_bytes_max:
        return Result(ResultStatus.INVALID)
    view, namespace, key, owner = context.view, operation.namespace, operation.key, operation.session_id
    head = view.get(HEADS, (namespace, key))
    refusal = _refusal(context, operation, head)
    if refusal is not None:
        return refusal
    if owner:
        if dedup is not None and dedup.session_id != owner:
            return Result(ResultStatus.INVALID)
        window = window_of(context, owner)
        if window is None:
            return Result(ResultStatus.SESSION_EXPIRED)
        joins = head is None or head.session_id != owner
        if joins and window.ephemeral_count >= context.limits.session_ephemeral_count_max:
            return Result(ResultStatus.QUOTA_EXCEEDED)
    revision = context.next_revision()
    previous = None
    if head is not None:
        previous = version_at(
            view.get(VERSIONS, (namespace, key, head.mod_revision)), namespace, key, head.mod_revision
        )
        if head.session_id != owner:
            _disown(context, head.session_id, namespace, key)
    if owner and (head is None or head.session_id != owner):
        _own(context, owner, namespace, key)
    create, version = (head.create_revision, head.version + 1) if head is not None else (revision, 1)
    item = KeyValue(
        namespace, key, operation.value, create, revision, version, operation.author, operation.comment, owner
    )
    view.put(HEADS, (namespace, key), Head(revision, create, version, owner))
    _record(context, item, previous, 1 if head is None else 0)
    return Result(ResultStatus.OK, revision, version)


def execute_delete(context: Context, operation: Delete, dedup: Dedup | None) -> Result:
    """Write a deletion; `extra` 0 if there was nothing to delete."""
    if not _is_valid(context, operation):
        return Result(ResultStatus.INVALID)
    head = context.view.get(HEADS, (operation.namespace, operation.key))
    refusal = _refusal(context, operation, head)
    if refusal is not None:
        return refusal
    if head is None:
        return Result(ResultStatus.OK, context.revision, 0)
    revision = _remove(context, operation.namespace, operation.key, head, operation.author, operation.comment)
    return Result(ResultStatus.OK, revision, 1)


def _remove(context: Context, namespace: str, key: str, head: Head, author: str, comment: str) -> int:
    view, revision = context.view, context.next_revision()
    previous = version_at(view.get(VERSIONS, (namespace, key, head.mod_revision)), namespace, key, head.mod_revision)
    if head.session_id:
        _disown(context, head.session_id, namespace, key)
    view.delete(HEADS, (namespace, key))
    item = KeyValue(
        namespace, key, b"", head.create_revision, revision, head.version + 1, author, comment, 0, deleted=True
    )
    _record(context, item, previous, -1)
    return revision


def _record(context: Context, item: KeyValue, previous: KeyValue | None, keys_added: int) -> None:
    """Store a version or deletion and list it as a change."""
    view, namespace, revision = context.view, item.namespace, item.mod_revision
    view.insert(VERSIONS, (namespace, item.key, revision), item)
    superseded = previous.mod_revision if previous is not None else 0
    view.insert(CHANGES, (namespace, revision), Change(item.key, superseded))
    record = view.get(NAMESPACES, namespace) or Namespace(0, 0, 0, 0)
    record.last_revision = revision
    record.keys_count += keys_added
    view.put(NAMESPACES, namespace, record)
    context.events.append(ConfigChanged(item, previous))


def _own(context: Context, session_id: int, namespace: str, key: str) -> None:
    window = window_of(context, session_id)
    if window is not None:
        window.ephemeral_count += 1
        context.view.put(WINDOWS, session_id, window)
        context.view.put(EPHEMERAL, (session_id, namespace, key), 0)


def _disown(context: Context, session_id: int, namespace: str, key: str) -> None:
    if not session_id:
        return
    context.view.delete(EPHEMERAL, (session_id, namespace, key))
    window = window_of(context, session_id)
    if window is not None:
        window.ephemeral_count -= 1
        context.view.put(WINDOWS, session_id, window)


def delete_owned(context: Context, session_id: int) -> None:
    """Delete a dying session's ephemeral keys: at most session_ephemeral_count_max."""
    owned = list(context.view.scan(EPHEMERAL, U64.pack(session_id), U64.pack(session_id + 1)))
    for (_, namespace, key), _ in owned:
        head = context.view.get(HEADS, (namespace, key))
        if head is not None and head.session_id == session_id:
            _remove(context, namespace, key, head, "", "its session ended")
        else:
            context.view.delete(EPHEMERAL, (session_id, namespace, key))


def execute_compact(context: Context, operation: Compact, dedup: Dedup | None) -> Result:
    """Forget history below a revision, up to compact_count_max changes at a time; `extra` 1 = repeat for more."""
    limits, target = context.limits, operation.revision
    if target > context.revision or (
        operation.namespace and not is_text(operation.namespace, limits.namespace_bytes_max)
    ):
        return Result(ResultStatus.INVALID)
    context.revision += 1
    names = [operation.namespace]
    if not operation.namespace:
        names = [name for name, _ in context.view.scan(NAMESPACES, b"", None)]
    budget = limits.compact_count_max
    for name in names:
        record = context.view.get(NAMESPACES, name)
        if record is None:
            continue
        record.compacted = max(record.compacted, target)
        if record.swept < target and budget > 0:
            budget -= _sweep(context, name, record, target, budget)
        context.view.put(NAMESPACES, name, record)
    return Result(ResultStatus.OK, target, 0 if budget > 0 else 1)


def _sweep(context: Context, namespace: str, record: Namespace, target: int, count_max: int) -> int:
    """Remove what no read at >= target needs: superseded versions, old deletions, their changes. How many looked at."""
    view, stem = context.view, text_stem(namespace)
    chosen: list[tuple[int, Change]] = []
    for (_, revision), change in view.scan(CHANGES, stem + U64.pack(record.swept), stem + U64.pack(target + 1)):
        chosen.append((revision, change))
        if len(chosen) == count_max:
            break
    for revision, change in chosen:
        if change.previous_revision:
            view.delete(VERSIONS, (namespace, change.key, change.previous_revision))
        if revision < target:
            version = view.get(VERSIONS, (namespace, change.key, revision))
            if version is not None and version.deleted:
                view.delete(VERSIONS, (namespace, change.key, revision))
            view.delete(CHANGES, (namespace, revision))
    record.swept = target if len(chosen) < count_max else chosen[-1][0]
    return len(chosen)


# -- format


def _encode_condition(operation: Put | Delete) -> bytes:
    revision = b"\x00" if operation.if_revision is None else b"\x01" + U64.pack(operation.if_revision)
    return revision + pack_text(operation.guard_lock) + U64.pack(operation.guard_token)


def _decode_condition(reader: Reader) -> tuple[int | None, str, int]:
    if_revision = reader.u64() if reader.flag() else None
    return if_revision, reader.text(), reader.u64()


def _encode_put(operation: Put) -> bytes:
    return b"".join(
        (
            pack_text(operation.namespace),
            pack_text(operation.key),
            _encode_condition(operation),
            U64.pack(operation.session_id),
            pack_text(operation.author),
            pack_text(operation.comment),
            pack_bytes(operation.value),
        )
    )


def _decode_put(reader: Reader) -> Put:
    namespace, key = reader.text(), reader.text()
    if_revision, guard_lock, guard_token = _decode_condition(reader)
    session_id = reader.u64()
    author, comment, value = reader.text(), reader.text(), reader.sized()
    return Put(namespace, key, value, if_revision, guard_lock, guard_token, author, comment, session_id)


def _encode_delete(operation: Delete) -> bytes:
    stem = pack_text(operation.namespace) + pack_text(operation.key)
    return stem + _encode_condition(operation) + pack_text(operation.author) + pack_text(operation.comment)


def _decode_delete(reader: Reader) -> Delete:
    namespace, key = reader.text(), reader.text()
    if_revision, guard_lock, guard_token = _decode_condition(reader)
    author = reader.text()
    return Delete(namespace, key, if_revision, guard_lock, guard_token, author, reader.text())


def _encode_compact(operation: Compact) -> bytes:
    return U64.pack(operation.revision) + pack_text(operation.namespace)


def _decode_compact(reader: Reader) -> Compact:
    revision = reader.u64()
    return Compact(reader.text(), revision)


COMMANDS: Final = (
    Kind(CommandKind.PUT, Put, _encode_put, _decode_put, execute_put),
    Kind(CommandKind.DELETE, Delete, _encode_delete, _decode_delete, execute_delete),
    Kind(CommandKind.COMPACT, Compact, _encode_compact, _decode_compact, execute_compact),
)
