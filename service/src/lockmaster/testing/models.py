"""Sequential models: what a register, a config key and a lock may answer, one operation after the other.

`step(state, op)` gives the state after the operation, or None if it can't happen with that answer in that state.
States are what is *known*: a config key written by a put whose answer was lost has an unknown revision above a floor,
which a later read may pin.

`observes(op)`: given its answer, the operation changes nothing, whatever the state: only such operations may be
linearized as soon as they fit. (A write of the value that is there already fits too and changes nothing *there*, but
taking it early takes it away from where it was needed: false violations.) An observer that pins knowledge is taken
early only where it pins nothing: leaving it out elsewhere only leaves more possible.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Protocol

from lockmaster.testing.history import Operation


class Model(Protocol):
    """A sequential specification of one object."""

    @property
    def initial(self) -> Hashable:
        """The state before the first operation."""

    def step(self, state: Any, op: Operation) -> Hashable | None:
        """The state after `op`, or None."""

    def observes(self, op: Operation) -> bool:
        """Whether `op` can never change a state."""


class Register:
    """read, write, cas on one value, None at first."""

    initial: Hashable = (None,)

    def step(self, state: tuple[str | None], op: Operation) -> Hashable | None:
        """The state after `op`, or None."""
        if op.kind == "read":
            return state if state[0] == op.value else None
        if op.kind == "write":
            return (op.value,)
        if op.ok:
            return (op.value,) if state[0] == op.expected else None
        return state if state[0] != op.expected else None

    def observes(self, op: Operation) -> bool:
        """Reads and failed compare-and-sets."""
        return op.kind == "read" or (op.kind == "cas" and not op.ok)


class ConfigKey:
    """get, put, delete on a versioned key. State: (value or None, revision, exact).

    exact False: the last change's answer was lost; its revision is somewhere above `revision`.
    """

    initial: Hashable = (None, 0, True)

    def step(self, state: tuple[str | None, int, bool], op: Operation) -> Hashable | None:
        """The state after `op`, or None."""
        if op.kind == "get":
            return self._see(state, op.value, op.revision)
        if not op.ok:
            if op.kind == "delete" and op.revision is None:
                return state if state[0] is None else None
            return self._see_revision(state, op.revision)
        if op.if_revision is not None and self._see_revision(state, op.if_revision) is None:
            return None
        floor = max(state[1], op.if_revision or 0)
        if op.kind == "delete" and state[0] is None:
            return None
        value = op.value if op.kind == "put" else None
        if op.revision is None:
            return (value, floor, False)
        return (value, op.revision, True) if op.revision > floor else None

    def _see(self, state: tuple[str | None, int, bool], value: str | None, revision: int | None) -> Hashable | None:
        if value != state[0]:
            return None
        return state if value is None or revision is None else self._see_revision(state, revision)

    def _see_revision(self, state: tuple[str | None, int, bool], revision: int | None) -> Hashable | None:
        """The state in which the key's current revision is `revision` (0 = absent, None = not told)."""
        value, low, exact = state
        if revision is None:
            return state
        if value is None or revision == 0:
            return state if value is None and revision == 0 else None
        if exact:
            return state if revision == low else None
        return (value, revision, True) if revision > low else None

    def observes(self, op: Operation) -> bool:
        """Gets, failed compares, deletes of nothing."""
        return op.kind == "get" or not op.ok


class FencedLock:
    """acquire, release, lost. State: (token of the holder or 0, last token). -1 = a holder whose answer was lost.

    Such a holder may vanish at any time (its session ends unseen), so it stops nobody and only explains "busy".
    """

    initial: Hashable = (0, 0)

    def step(self, state: tuple[int, int], op: Operation) -> Hashable | None:
        """The state after `op`, or None."""
        holder, last = state
        if op.kind == "acquire":
            if not op.ok:
                return state if holder else None
            if holder > 0:
                return None
            if op.token is None:
                return (-1, last) if not holder else None
            return (op.token, op.token) if op.token > last else None
        if op.kind == "release" and not op.ok:
            return state if holder != op.token else None
        if holder == op.token:
            return (0, last)
        if holder == -1 and op.kind == "release" and op.token is not None and op.token > last:
            return (0, op.token)
        return None

    def observes(self, op: Operation) -> bool:
        """Busy and not-held answers."""
        return not op.ok


def with_unseen_ends(operations: Sequence[Operation]) -> list[Operation]:
    """Lock operations, with a `lost` for every hold that no release or lost ends: its session may have expired."""
    ended = {op.token for op in operations if op.kind in ("release", "lost") and op.ok}
    unseen = [
        Operation(op.process, "lost", op.key, op.call, None, token=op.token)
        for op in operations
        if op.kind == "acquire" and op.ok and op.token is not None and op.token not in ended
    ]
    return [*operations, *unseen]
