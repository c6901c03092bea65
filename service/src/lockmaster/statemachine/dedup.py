"""Exactly-once execution (RIFL; reference: Lee et al., SOSP'15): one answer per (session, seq), for ever the same.

Order of the checks: no session -> SESSION_EXPIRED, nothing done; seq < first_incomplete -> STALE; a record -> its
answer, or SEQ_REUSED if the digest differs; outside of the window or over its bytes -> WINDOW_FULL; else execute and
store the answer, refusals of the operation itself included. The acknowledgement in the header is taken in all cases
where the session lives: it says what the client has, whatever becomes of this call.

Law: a completion record of (session, seq) exists <=> the operation took effect or was refused under that seq, from
then until the client acknowledges it or the session ends.
"""

from __future__ import annotations

from typing import Final

from lockmaster.statemachine.commands import Acquire, Dedup, Operation, Result, ResultStatus
from lockmaster.statemachine.limits import DIGEST_BYTES, INT_MAX
from lockmaster.statemachine.locks import current_answer
from lockmaster.statemachine.records import COMPLETIONS, WINDOWS, Completion, Window
from lockmaster.statemachine.table import Context, Kind

RECORD_BYTES: Final = 64
"""What one completion record counts for in the byte quota: its key, value and share of indexes."""


def execute_once(context: Context, kind: Kind, operation: Operation, dedup: Dedup) -> Result:
    """The answer of (dedup.session_id, dedup.seq): stored, or made now and stored."""
    session_id, seq = dedup.session_id, dedup.seq
    view = context.view
    if not kind.deduplicated or not 0 < dedup.first_incomplete <= seq <= INT_MAX or len(dedup.digest) != DIGEST_BYTES:
        return Result(ResultStatus.INVALID)
    window = view.get(WINDOWS, session_id)
    if window is None:
        return Result(ResultStatus.SESSION_EXPIRED)
    if seq < window.first_incomplete:
        return Result(ResultStatus.STALE)
    if dedup.first_incomplete > window.first_incomplete:
        acknowledge(context, session_id, window, dedup.first_incomplete)
    if seq <= window.seq_max:
        record = view.get(COMPLETIONS, (session_id, seq))
        if record is not None:
            view.put(WINDOWS, session_id, window)
            return stored_answer(context, record, operation, dedup)
    if not has_room(context, window, seq):
        view.put(WINDOWS, session_id, window)
        return Result(ResultStatus.WINDOW_FULL)
    if seq > window.seq_max:
        window.seq_max = seq
    window.record_bytes += RECORD_BYTES
    context.window, context.window_id = window, session_id
    result = kind.execute(context, operation, dedup)
    if context.window_id:  # else the operation ended this very session, and its records with it
        view.insert(
            COMPLETIONS, (session_id, seq), Completion(dedup.digest, result.status, result.revision, result.extra)
        )
        view.put(WINDOWS, session_id, window)
        context.window, context.window_id = None, 0
    return result


def has_room(context: Context, window: Window, seq: int) -> bool:
    """Whether a new record of `seq` fits into the session's window and byte quota."""
    limits = context.limits
    return (
        seq < window.first_incomplete + limits.window_count_max
        and window.record_bytes + RECORD_BYTES <= limits.window_bytes_max
    )


def acknowledge(context: Context, session_id: int, window: Window, first_incomplete: int) -> None:
    """Forget the records below `first_incomplete`; the caller puts the window. At most window_count_max steps."""
    view = context.view
    for seq in range(window.first_incomplete, min(first_incomplete, window.seq_max + 1)):
        if view.get(COMPLETIONS, (session_id, seq)) is not None:
            view.delete(COMPLETIONS, (session_id, seq))
            window.record_bytes -= RECORD_BYTES
    window.first_incomplete = first_incomplete


def stored_answer(context: Context, record: Completion, operation: Operation, dedup: Dedup) -> Result:
    """What a retry gets."""
    if type(operation) is Acquire:
        if record.digest not in (dedup.digest, b""):
            return Result(ResultStatus.SEQ_REUSED)
        return current_answer(context, record, dedup.session_id, dedup.seq)
    if record.digest != dedup.digest:
        return Result(ResultStatus.SEQ_REUSED)
    return Result(record.status, record.revision, record.extra)
