"""What a TokenReview's answer means here (security.md §5.2): a principal, or why not. Pure.

Laws.
1. Nothing but the API server's word lets anybody in; what a token says of itself only shortens how long that word is
   kept, or spares a question whose answer would be no.
2. An absent or malformed field means no: an answer without our audience in `status.audiences` is one about the API
   server's own audience.
3. The text of a refusal never holds the token, or any part of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from lockmaster.statemachine.identity import bound
from lockmaster.statemachine.limits import LIMITS
from lockmaster.tokens import claims

TOKEN_BYTES_MAX: Final = 8 << 10
KEPT_SECONDS_MAX: Final = 60.0
"""How long an answer may be used again."""
SKEW_SECONDS_MAX: Final = 60.0
"""So much a member's clock may differ from the API server's: a token is called expired without asking only after it."""
SECONDS_MAX: Final = 1e12
"""A token's end beyond this is none: a number of a stranger's, of any length, or no number at all."""
PRINCIPAL_BYTES_MAX: Final = LIMITS.principal_bytes_max
POD_NAME: Final = "authentication.kubernetes.io/pod-name"
POD_UID: Final = "authentication.kubernetes.io/pod-uid"
_ACCOUNT: Final = re.compile(r"system:serviceaccount:[a-z0-9.-]{1,63}:[a-z0-9.-]{1,253}")
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


class Reason(StrEnum):
    """Why somebody isn't let in: the metric's label."""

    MISSING = "missing"
    MALFORMED = "malformed"
    AUDIENCE = "audience"
    REFUSED = "refused"
    """By the API server: expired, revoked, its pod or ServiceAccount deleted, not signed by it."""
    NOT_A_SERVICE_ACCOUNT = "not_a_service_account"
    TOO_LONG = "too_long"
    """A principal that no session could be opened for."""
    UNANSWERED = "unanswered"
    """The API server did not answer, or not in time."""
    BUSY = "busy"
    """Too many tokens wait for an answer."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a token is of, and until when (seconds of the wall clock) that may be believed."""

    name: str
    until: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a token is not let in; `text` is for its owner."""

    reason: Reason
    text: str


def looks_wrong(token: str, audience: str, now: float) -> Refusal | None:
    """Why the API server need not be asked about this token; None: it must be. `now`: seconds of the wall clock."""
    if not token:
        return Refusal(Reason.MISSING, "no client certificate and no ServiceAccount token was shown")
    if len(token) > TOKEN_BYTES_MAX or _TOKEN.fullmatch(token) is None:
        return Refusal(Reason.MALFORMED, "what was shown is no ServiceAccount token")
    said = claims(token)
    expires = _expiry(said)
    if expires is not None and now > expires + SKEW_SECONDS_MAX:
        return Refusal(Reason.REFUSED, "the token has expired")
    audiences = said.get("aud")
    if audiences != audience and not (isinstance(audiences, list) and audience in audiences):
        return Refusal(Reason.AUDIENCE, f"the token is not made for the audience {audience!r}")
    return None


def policy(review: Mapping[str, Any], token: str, audience: str, now: float) -> Principal | Refusal:
    """What the TokenReview that the API server answered with says of the token that it was asked about."""
    status = review.get("status")
    if not isinstance(status, dict) or status.get("authenticated") is not True or status.get("error"):
        return Refusal(Reason.REFUSED, "the API server does not accept the token: expired, or its pod is gone")
    audiences = status.get("audiences")
    if not isinstance(audiences, list) or audience not in audiences:
        return Refusal(Reason.AUDIENCE, f"the token is not made for the audience {audience!r}")
    user = status.get("user")
    name = user.get("username") if isinstance(user, dict) else None
    if not isinstance(user, dict) or not isinstance(name, str) or _ACCOUNT.fullmatch(name) is None:
        return Refusal(Reason.NOT_A_SERVICE_ACCOUNT, "the token is not a ServiceAccount's")
    extra = user.get("extra")
    of_a_pod = isinstance(extra, dict) and (POD_NAME in extra or POD_UID in extra)
    principal = bound(name, _only(extra, POD_NAME), _only(extra, POD_UID)) if of_a_pod else name
    if principal is None:
        # As the account alone it would be served to every pod of that.
        return Refusal(Reason.REFUSED, "the API server's names of the token's pod are no names of Kubernetes")
    if len(principal) > PRINCIPAL_BYTES_MAX:
        limit = f"{len(principal)} bytes; at most {PRINCIPAL_BYTES_MAX} are allowed"
        return Refusal(Reason.TOO_LONG, f"the names of ServiceAccount, pod and namespace make a principal of {limit}")
    until, expires = now + KEPT_SECONDS_MAX, _expiry(claims(token))
    return Principal(principal, until if expires is None else min(until, expires))


def _expiry(said: Mapping[str, Any]) -> float | None:
    """When a token says that it ends, in seconds of the wall clock; None: it says nothing that is a time."""
    expires = said.get("exp")
    if isinstance(expires, bool) or not isinstance(expires, int | float) or not abs(expires) <= SECONDS_MAX:
        return None
    return float(expires)


def _only(extra: object, key: str) -> str:
    """The one text under a key; "" where there is none, or several."""
    values = extra.get(key) if isinstance(extra, dict) else None
    return values[0] if isinstance(values, list) and len(values) == 1 and isinstance(values[0], str) else ""
