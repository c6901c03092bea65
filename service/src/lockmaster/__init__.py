"""Lockmaster: distributed locks and live configuration.

    from lockmaster import AsyncClient, Client

    async with AsyncClient("locks.infra:7420", tls=TLS(ca, cert, key)) as client:
        async with client.lock("orders/42", timeout=5) as held:
            ...  # held.fencing_token

Importing this package loads its errors alone: the client comes with its first use, the server never. So a command line
that is interrupted while gRPC loads says nothing, and `lockmaster.statemachine` is imported without a wire.
"""

import importlib
from typing import TYPE_CHECKING

from lockmaster.errors import (
    Compacted,
    CompareFailed,
    ConfigMismatch,
    ForkedClient,
    Indeterminate,
    InvalidRequest,
    LockBusy,
    LockJeopardy,
    LockLost,
    LockmasterError,
    LockTimeout,
    NotFound,
    NotHeld,
    NotLeader,
    Overloaded,
    PermissionDenied,
    PreconditionFailed,
    QuotaExceeded,
    SequenceRefused,
    SessionExpired,
    Unavailable,
    WrongLoop,
)

if TYPE_CHECKING:
    from lockmaster.client.async_client import AsyncClient
    from lockmaster.client.consistency import Bounded, Consistency, Eventual, LeaderLease, Linearizable
    from lockmaster.client.endpoints import TLS
    from lockmaster.client.locks import Held
    from lockmaster.client.sync_client import Client
    from lockmaster.client.typed import TypedChange, Versioned
    from lockmaster.client.watching import Change, Item

_HOMES = {
    "AsyncClient": "async_client",
    "Bounded": "consistency",
    "Change": "watching",
    "Client": "sync_client",
    "Consistency": "consistency",
    "Eventual": "consistency",
    "Held": "locks",
    "Item": "watching",
    "LeaderLease": "consistency",
    "Linearizable": "consistency",
    "TLS": "endpoints",
    "TypedChange": "typed",
    "Versioned": "typed",
}
"""What is loaded when it is first asked for, and the module of lockmaster.client that has it."""

__all__ = [
    "TLS",
    "AsyncClient",
    "Bounded",
    "Change",
    "Client",
    "Compacted",
    "CompareFailed",
    "ConfigMismatch",
    "Consistency",
    "Eventual",
    "ForkedClient",
    "Held",
    "Indeterminate",
    "InvalidRequest",
    "Item",
    "LeaderLease",
    "Linearizable",
    "LockBusy",
    "LockJeopardy",
    "LockLost",
    "LockTimeout",
    "LockmasterError",
    "NotFound",
    "NotHeld",
    "NotLeader",
    "Overloaded",
    "PermissionDenied",
    "PreconditionFailed",
    "QuotaExceeded",
    "SequenceRefused",
    "SessionExpired",
    "TypedChange",
    "Unavailable",
    "Versioned",
    "WrongLoop",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"lockmaster.client.{home}"), name)
    globals()[name] = value
    return value
