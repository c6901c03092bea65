"""Who calls, and what an administrator may do: by certificate, by ServiceAccount token, or nobody (plaintext, dev).

Theory of operation. A certificate that TLS has verified decides; on the login port, which asks for none, a token does.
Where logins are on, whoever shows neither is refused on every RPC of ours.

Laws.
1. No principal of a certificate looks like a token's ("system:serviceaccount:").
2. A token never makes an administrator, unless `admins` names its ServiceAccount.
3. Reading who the members are (OPEN) needs a caller, and no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import grpc

from lockmaster.errors import PermissionDenied, Unavailable
from lockmaster.server.login_policy import KEPT_SECONDS_MAX, Principal, Reason, Refusal
from lockmaster.server.runtime import Engine
from lockmaster.statemachine.identity import SERVICE_ACCOUNT, identity_of

if TYPE_CHECKING:
    from lockmaster.server.token_review import Logins

Context = grpc.aio.ServicerContext[Any, Any]
ADMIN: Final = "lockmaster.v1.Admin."
OPEN: Final = frozenset({ADMIN + "Status", ADMIN + "ListMembers"})
BEARER: Final = "bearer "
TICKET_SECONDS: Final = 60.0
"""How long a caller that has logged in may open streams on the session port without being asked about again."""
RENEW_SECONDS: Final = 180.0
"""How long until a stream's token is asked about again. What let it in may be KEPT_SECONDS_MAX and TICKET_SECONDS old:
at most 300 s after a token has expired, or its pod or ServiceAccount is deleted, the API server is asked, which takes
at most 10 s."""
REVOKED_SECONDS: Final = 1.0
"""How long a stream that was told so may take to end by itself."""
OUTAGE_SECONDS: Final = 3600.0
"""How long a stream outlives the last good answer while the API server gives none."""


class Unauthenticated(PermissionDenied):
    """No credential that is good here was shown."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One call's or stream's origin."""

    principal: str = ""
    names: tuple[str, ...] = ()
    """Of its certificate."""
    token: str = field(default="", repr=False)


class Callers:
    """Decides for the ports of one member."""

    def __init__(self, engine: Engine, admins: tuple[str, ...], logins: Logins | None) -> None:
        self._engine = engine
        self._admins = frozenset(admins)
        self.logins = logins

    async def identify(self, context: Context) -> Caller:
        """Who calls by gRPC. Raises Unauthenticated; Unavailable where that can't be told now."""
        names = tuple(peer_names(context))
        if names or self.logins is None:
            return self.certified(names)
        metadata = dict(context.invocation_metadata() or ())
        shown = metadata.get("authorization", "")
        scheme = shown[: len(BEARER)] if isinstance(shown, str) else ""
        token = str(shown)[len(BEARER) :] if scheme.lower() == BEARER else ""
        return await self.by_token(self.logins, token)

    def certified(self, names: tuple[str, ...]) -> Caller:
        """The caller with these names in its certificate; without any, nobody in particular."""
        if not names and self.logins is not None:
            raise Unauthenticated("no client certificate and no ServiceAccount token was shown")
        if any(name.startswith(SERVICE_ACCOUNT) for name in names):
            raise Unauthenticated("a client certificate must not name a ServiceAccount")
        return Caller(names[0] if names else "", names)

    async def by_token(self, logins: Logins, token: str) -> Caller:
        """The caller with this token."""
        answer = await logins.login(token)
        if isinstance(answer, Refusal):
            if answer.reason in (Reason.UNANSWERED, Reason.BUSY):
                raise Unavailable(answer.text)
            raise Unauthenticated(answer.text)
        return Caller(answer.name, (), token)

    def admit(self, caller: Caller, method: str) -> None:
        """Raises PermissionDenied unless the caller may use this RPC (full name)."""
        if not method.startswith(ADMIN) or method in OPEN or self.may_administer(caller):
            return
        raise PermissionDenied("administration is for the names in `admins` and for members' certificates")

    def may_administer(self, caller: Caller) -> bool:
        """Named as an administrator, or a member; any certificate where nobody is named (and plaintext, where that is
        all there is)."""
        if caller.token:
            return identity_of(caller.principal).name in self._admins
        if not self._admins:
            return True
        return any(name in self._admins for name in caller.names) or self.is_member(caller)

    def is_member(self, caller: Caller) -> bool:
        """Whether the caller's certificate names the host of a member's client or peer address."""
        hosts = set()
        for member in self._engine.status().members:
            for address in (member.client_address, member.peer_address):
                hosts.add(address.rpartition(":")[0].strip("[]"))
        return any(name in hosts for name in caller.names)


async def keep_watch(logins: Logins, caller: Caller, over: Callable[[], None]) -> None:
    """Asks again every RENEW_SECONDS whether a stream's token still is good; calls `over` when it is not.

    That is no loss for whoever has a newer one: he comes back with it, his session goes on. While the API server can't
    be asked the stream stays, for OUTAGE_SECONDS at most.
    """
    loop = asyncio.get_running_loop()
    confirmed = loop.time() - KEPT_SECONDS_MAX - TICKET_SECONDS  # it may have been let in by an answer that old
    while True:
        pause, left = RENEW_SECONDS * (0.8 + 0.2 * random.random()), confirmed + OUTAGE_SECONDS - loop.time()
        await asyncio.sleep(min(pause, left) if left > 0 else pause)
        answer = await logins.login(caller.token, anew=True)
        unknown = isinstance(answer, Refusal) and answer.reason in (Reason.UNANSWERED, Reason.BUSY)
        if isinstance(answer, Principal) and answer.name == caller.principal:
            confirmed = loop.time()
        elif not unknown or loop.time() - confirmed >= OUTAGE_SECONDS:
            break
    over()


@contextlib.asynccontextmanager
async def while_good(
    logins: Logins | None, caller: Caller, closing: Callable[[], None] = lambda: None
) -> AsyncIterator[None]:
    """For what outlives a call: its body is cut off once the caller's token is no longer good.

    First `closing` asks it to end; REVOKED_SECONDS later it is cancelled, whatever it waits for.
    Raises Unauthenticated then.
    """
    if logins is None or not caller.token:
        yield
        return
    loop = asyncio.get_running_loop()
    cut = asyncio.timeout(None)

    def over() -> None:
        cut.reschedule(loop.time() + REVOKED_SECONDS)
        closing()

    try:
        async with cut:
            watcher = asyncio.create_task(keep_watch(logins, caller, over), name="login-watch")
            try:
                yield
            finally:
                watcher.cancel()
    except TimeoutError as error:
        if not cut.expired():
            raise
        raise Unauthenticated("the ServiceAccount token is no longer good") from error


def peer_names(context: Context) -> list[str]:
    """The names in the caller's verified certificate; empty without mTLS."""
    auth: dict[str, Any] = dict(context.auth_context() or {})
    found = list(auth.get("x509_subject_alternative_name", ())) or list(auth.get("x509_common_name", ()))
    return [name.decode("utf-8", "replace") for name in found]


def names_in(certificate: dict[str, Any] | None) -> tuple[str, ...]:
    """The names in a verified certificate (as `getpeercert` tells it): its SANs, else its common name."""
    if not certificate:
        return ()
    found = tuple(str(name) for _, name in certificate.get("subjectAltName", ()))
    common = (v for part in certificate.get("subject", ()) for kind, v in part if kind == "commonName")
    return found or tuple(map(str, common))
