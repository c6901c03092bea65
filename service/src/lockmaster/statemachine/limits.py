"""Every maximum that `apply` enforces. They are part of the format: replicas with different limits would diverge."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

NANOS_MAX: Final = 2**62
"""Largest duration or cluster time in a command; sums of two stay within 64 signed bits."""
INT_MAX: Final = 2**63 - 1
"""Largest id, revision, token and sequence number."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one format level. Only tests ever use others than LIMITS."""

    window_count_max: int = 512
    """Sequence numbers from first_incomplete on that a session may have in use (RIFL window)."""
    window_bytes_max: int = 64 * 1024
    """Bytes of stored answers per session."""
    sessions_count_max: int = 250_000
    session_claims_count_max: int = 10_000
    """Locks held and waited for, together, per session."""
    session_ephemeral_count_max: int = 1_000
    lock_waiters_count_max: int = 100_000
    ttl_ns_max: int = 86_400_000_000_000
    lock_delay_ns_max: int = 60_000_000_000
    wait_ns_max: int = 86_400_000_000_000
    name_bytes_max: int = 512
    namespace_bytes_max: int = 253
    key_bytes_max: int = 1_024
    value_bytes_max: int = 1024 * 1024
    author_bytes_max: int = 256
    comment_bytes_max: int = 1_024
    principal_bytes_max: int = 512
    label_bytes_max: int = 256
    reason_bytes_max: int = 1_024
    keep_alive_count_max: int = 10_000
    expire_count_max: int = 10_000
    compact_count_max: int = 1_000
    """Changes that one Compact looks at; its answer says whether more are left."""


LIMITS: Final = Limits()
NONCE_BYTES: Final = 16
DIGEST_BYTES: Final = 8

# Not str.isprintable(): that table changes between Python versions, and replicas may run different ones.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]").search


def is_text(value: str, bytes_max: int, *, bytes_min: int = 1) -> bool:
    """Whether `value` has bytes_min … bytes_max bytes of UTF-8 and no control character."""
    size = len(value) if value.isascii() else len(value.encode())
    return bytes_min <= size <= bytes_max and _CONTROL(value) is None


def fits(value: str, bytes_max: int) -> bool:
    """Whether free text (any characters) has at most `bytes_max` bytes of UTF-8."""
    return len(value) <= bytes_max and (value.isascii() or len(value.encode()) <= bytes_max)
