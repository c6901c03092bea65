"""The errors a user of Lockmaster meets, named for what the caller may do, and their one mapping to the wire.

Retryable, certainly not done: NotLeader, Overloaded, Unavailable. Perhaps done: Indeterminate (repeat only under the
same session and sequence number; the SDK does). Everything else is definite.
"""

from __future__ import annotations


class LockmasterError(Exception):
    """Base of every error of this package."""


class NotLeader(LockmasterError):
    """This member does not lead; nothing was done. `leader_hint` is host:port of the leader's client port, or ""."""

    def __init__(self, leader_hint: str = "", why: str = "not the leader") -> None:
        super().__init__(f"{why}; leader: {leader_hint or 'unknown'}")
        self.leader_hint = leader_hint


class Overloaded(LockmasterError):
    """A stated maximum is reached; nothing was done. Try again after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float = 0.05) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(LockmasterError):
    """No member could be reached or none leads within the time allowed; nothing was done."""


class Indeterminate(LockmasterError):
    """It may have happened: the answer was lost and the session has ended or the time ran out."""


class LockTimeout(LockmasterError, TimeoutError):
    """The lock was not granted within `timeout` seconds; the place in the queue was withdrawn."""


class LockBusy(LockTimeout):
    """Somebody holds the lock and waiting was not asked for."""


class LockLost(LockmasterError):
    """The lock with this fencing token is no longer held; `cause` says why."""

    def __init__(self, name: str, token: int, cause: str) -> None:
        super().__init__(f"lock {name!r} with token {token} is lost: {cause}")
        self.name = name
        self.token = token
        self.cause = cause


class LockJeopardy(LockmasterError):
    """The lock is held but less validity remains than asked for: the last renewals have not been confirmed."""


class NotHeld(LockmasterError, RuntimeError):
    """Release or guard with a token that does not hold the lock."""


class SessionExpired(LockmasterError):
    """The session is over; its locks and ephemeral keys are gone. Open a new one; unanswered calls are unknown."""


class SequenceRefused(LockmasterError):
    """Exactly-once refused the call: STALE, SEQ_REUSED or WINDOW_FULL. Nothing was done."""


class CompareFailed(LockmasterError):
    """The key's revision is not the one given; `current` is its mod revision, 0 if it does not exist."""

    def __init__(self, current: int) -> None:
        super().__init__(f"the key's revision is {current or 'none: it does not exist'}")
        self.current = current


class NotFound(LockmasterError, KeyError):
    """No such key, lock, session or member."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class Compacted(LockmasterError):
    """History at that revision is gone; `first` is the first revision still held."""

    def __init__(self, first: int) -> None:
        super().__init__(f"history below revision {first} has been compacted")
        self.first = first


class InvalidRequest(LockmasterError, ValueError):
    """A field is out of its range; nothing was done."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field
        self.why = why


class ConfigMismatch(LockmasterError, ValueError):
    """A configuration value does not fit the model it is read or written as; `revision` is 0 for one not written."""

    def __init__(self, namespace: str, key: str, revision: int, why: str) -> None:
        at = f" at revision {revision}" if revision else ""
        super().__init__(f"{namespace}/{key}{at} does not fit the model: {why}")
        self.namespace = namespace
        self.key = key
        self.revision = revision
        self.why = why


class PermissionDenied(LockmasterError):
    """The caller's identity may not do this."""


class QuotaExceeded(LockmasterError):
    """A stated maximum of sessions, locks, keys, bytes or watches is reached; nothing was done."""


class PreconditionFailed(LockmasterError):
    """The cluster's state does not allow this; the text names the member and the number in the way."""


class ForkedClient(LockmasterError, RuntimeError):
    """This client was made before a fork: make a new one in the child."""


class WrongLoop(LockmasterError, RuntimeError):
    """This AsyncClient belongs to another event loop."""
