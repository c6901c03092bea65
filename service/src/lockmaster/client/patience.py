"""How long an attempt to connect to a member may take. Pure.

A member whose node is gone answers nothing, and an attempt at it lasts as long as it is allowed to; one far away takes
four round trips. So an address is given FIRST_SECONDS, and SECOND_SECONDS once that was not enough. More it gets only
from what is known of the distance: twice what the last member that was reached took; or, while none is, the double for
each round of attempts in vain. A round is one at each endpoint, and once the distance is known at least MEMBERS_MIN:
one endpoint may stand for several members (a Service), and the dead one was met again. Never more than SECONDS_MAX.
"""

from __future__ import annotations

from typing import Final

FIRST_SECONDS: Final = 0.5
SECOND_SECONDS: Final = 1.0
SECONDS_MAX: Final = 4.0
MEMBERS_MIN: Final = 3
STAGGER_SECONDS: Final = 0.1
ADDRESSES_MAX: Final = 64
VAIN_SHARE: Final = 0.8
"""An attempt that failed after less of its time was refused: that says nothing about the distance."""


class Patience:
    """Of one client towards the members of one cluster, for its event loop and its keepalive's thread."""

    def __init__(self, endpoints: int) -> None:
        """`endpoints`: how many there are, which is how many attempts make a round."""
        self._endpoints = endpoints
        self._vain = 0
        self._took = 0.0
        self._slow: set[str] = set()

    def seconds(self, address: str) -> float:
        """What the next attempt at this address may take."""
        first = SECOND_SECONDS if address in self._slow else FIRST_SECONDS
        attempts = max(self._endpoints, MEMBERS_MIN) if self._took else self._endpoints
        doubled = FIRST_SECONDS * (1 << min(self._vain // attempts, 16))
        return min(SECONDS_MAX, max(first, doubled, 2 * self._took))

    def stagger(self) -> float:
        """How long an attempt is alone before one at another address joins it: 0.1 s, longer where members are far."""
        return min(FIRST_SECONDS, max(STAGGER_SECONDS, 2 * self._took))

    def reached(self, address: str, took: float) -> None:
        """It is connected, after so many seconds."""
        self._vain, self._took = 0, took
        self._slow.discard(address)

    def failed(self, address: str, took: float, allowed: float) -> None:
        """It is not, after so many seconds of those that it was allowed."""
        if took < VAIN_SHARE * allowed:
            return
        self._vain += 1
        if len(self._slow) >= ADDRESSES_MAX:
            self._slow.clear()
        self._slow.add(address)
