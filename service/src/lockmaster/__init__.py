"""Lockmaster: distributed locks and live configuration.

    from lockmaster import AsyncClient, Client

    async with AsyncClient("locks.infra:7420", tls=TLS(ca, cert, key)) as client:
        async with client.lock("orders/42", timeout=5) as held:
            ...  # held.fencing_token

Importing this package imports the client alone, never the server.
"""

from lockmaster.client.async_client import AsyncClient
from lockmaster.client.endpoints import TLS
from lockmaster.client.locks import Held
from lockmaster.client.sync_client import Client
from lockmaster.client.typed import TypedChange, Versioned
from lockmaster.client.watching import Change, Item
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

__all__ = [
    "TLS",
    "AsyncClient",
    "Change",
    "Client",
    "Compacted",
    "CompareFailed",
    "ConfigMismatch",
    "ForkedClient",
    "Held",
    "Indeterminate",
    "InvalidRequest",
    "Item",
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
