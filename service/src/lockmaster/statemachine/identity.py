"""What a session's principal says: who opened it, and from which pod.

    principal = name | name ";pod=" pod name ";uid=" pod UID

The pod is part of the principal that the session record has had from level 1 on, so every member keeps and compares
it, whatever its version: a session of one pod is not usable by another pod of the same ServiceAccount. Only a token's
principal begins with "system:serviceaccount:": the server refuses certificates with such a name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

SERVICE_ACCOUNT: Final = "system:serviceaccount:"
_BOUND: Final = re.compile(
    r"(?P<name>system:serviceaccount:(?P<namespace>[a-z0-9.-]{1,63}):[a-z0-9.-]{1,253})"
    r";pod=(?P<pod>[a-z0-9.-]{1,253});uid=(?P<uid>[A-Za-z0-9-]{1,64})"
)


@dataclass(frozen=True, slots=True)
class Identity:
    """A principal taken apart; pod, UID and namespace are "" for whoever is not bound to a pod."""

    name: str
    pod: str = ""
    pod_uid: str = ""
    namespace: str = ""


def bound(name: str, pod: str, pod_uid: str) -> str | None:
    """The principal of a ServiceAccount's pod; None where these are no names of Kubernetes."""
    principal = f"{name};pod={pod};uid={pod_uid}"
    return principal if _BOUND.fullmatch(principal) else None


def identity_of(principal: str) -> Identity:
    """Takes a principal apart. Total: what is not bound to a pod is its name."""
    found = _BOUND.fullmatch(principal)
    if found is None:
        return Identity(principal)
    return Identity(found["name"], found["pod"], found["uid"], found["namespace"])
