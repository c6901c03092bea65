"""Is a history linearizable? Just-in-time linearization (Lowe 2017) per key, and an exact check of fenced locks.

Theory of operation. Objects are independent, so each key is checked alone (Herlihy and Wing: linearizability is
local). A key's events are swept in time order with the set of all configurations that explain what was seen so far:
(state, mask of pending operations that have taken effect). At an operation's return every configuration must contain
it; where it doesn't, other pending operations are tried before it, only as far as needed. Slots of returned
operations are used again, so masks stay as small as the concurrency. An empty set of configurations names the very
operation at which no explanation is left.

Laws.
1. Operations without known outcome stay pending for ever and may take effect at any time, or never.
2. Observers (models.py) are taken as soon as they fit and change nothing known; nothing else ever is.
3. Of operations without known outcome that would do the same, the one called first is tried first; one that would
   change nothing is not tried; and a configuration is dropped if another of the same state has used fewer of them:
   whatever continues the one continues the other.
4. No answer within the step budget is red: undecided is not ok.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Final

from lockmaster.testing.history import KINDS, Operation
from lockmaster.testing.models import ConfigKey, FencedLock, Model, Register, with_unseen_ends

STEPS_MAX: Final = 5_000_000
"""Model steps per key before the answer is "undecided"."""

Configuration = tuple[Hashable, int]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one object. `culprit`: the operation whose answer no order explains."""

    sort: str
    key: str
    ok: bool
    why: str = ""
    culprit: Operation | None = None
    operations_count: int = 0
    configurations_peak: int = 0


@dataclass(slots=True)
class Report:
    """Verdicts of all objects, and what shows that the history was not empty talk."""

    verdicts: list[Verdict] = field(default_factory=list)
    operations_count: int = 0
    unknown_count: int = 0
    concurrency_peak: int = 0

    @property
    def ok(self) -> bool:
        """Every object is linearizable."""
        return all(verdict.ok for verdict in self.verdicts)

    @property
    def failures(self) -> list[Verdict]:
        """What is not."""
        return [verdict for verdict in self.verdicts if not verdict.ok]

    def lines(self) -> list[str]:
        """For people."""
        lines = [f"{v.sort} {v.key!r}: NOT LINEARIZABLE: {v.why}" for v in self.failures]
        lines.append(
            f"{'ok' if self.ok else 'FAILED'}: {self.operations_count} operations on {len(self.verdicts)} objects, "
            f"{self.unknown_count} of unknown outcome, up to {self.concurrency_peak} at once"
        )
        return lines


class _OutOfSteps(Exception):
    pass


class _Sweep:
    """The configurations of one object."""

    def __init__(self, model: Model, steps_max: int) -> None:
        self.model = model
        self.steps_left = steps_max
        self.configurations: set[Configuration] = {(model.initial, 0)}
        self.peak = 1
        self.mutators: dict[int, Operation] = {}
        """Pending operations by slot bit, in the order of their calls."""
        self.observers: dict[int, Operation] = {}
        self.free_bits: list[int] = []
        self.unknown_mask = 0
        self.twins: dict[int, int] = {}
        """Bit of an operation without known outcome -> bit of the one before it that would do the same."""
        self._alike: dict[Hashable, int] = {}
        self.bits_count = 0

    def call(self, op: Operation) -> int:
        if self.free_bits:
            bit = self.free_bits.pop()
        else:
            bit = 1 << self.bits_count
            self.bits_count += 1
        if self.model.observes(op):
            self.observers[bit] = op
            self.configurations = {self._absorb(state, mask) for state, mask in self.configurations}
        else:
            self.mutators[bit] = op
            if op.returned is None:
                self.unknown_mask |= bit
                effect = (op.kind, op.value, op.expected, op.if_revision, op.token)
                if effect in self._alike:
                    self.twins[bit] = self._alike[effect]
                self._alike[effect] = bit
        return bit

    def _absorb(self, state: Hashable, mask: int) -> Configuration:
        for bit, op in self.observers.items():
            if not mask & bit:
                self._count()
                if self.model.step(state, op) == state:
                    mask |= bit
        return state, mask

    def _count(self) -> None:
        self.steps_left -= 1
        if self.steps_left < 0:
            raise _OutOfSteps

    def complete(self, bit: int, op: Operation) -> bool:
        """The operation returned: force it. False if no configuration is left."""
        done: set[Configuration] = set()
        todo = []
        for configuration in self.configurations:
            if configuration[1] & bit:
                done.add((configuration[0], configuration[1] & ~bit))
            else:
                todo.append(configuration)
        seen = set(todo)
        while todo:
            state, mask = todo.pop()
            self._count()
            after = self.model.step(state, op)
            if after is not None:
                forced = self._absorb(after, mask | bit)
                done.add((forced[0], forced[1] & ~bit))
            for other_bit, other in self.mutators.items():
                if other_bit == bit or mask & other_bit or self._must_wait(other_bit, mask):
                    continue
                self._count()
                moved = self.model.step(state, other)
                if moved is None or (moved == state and other.returned is None):
                    continue
                self._note(self._absorb(moved, mask | other_bit), bit, seen, todo, done)
            self._pin(state, mask, bit, seen, todo, done)
        self.mutators.pop(bit, None)
        self.observers.pop(bit, None)
        self.free_bits.append(bit)
        self.peak = max(self.peak, len(done), len(seen))
        self.configurations = self._undominated(done) if self.unknown_mask and len(done) > 1 else done
        return bool(done)

    def _must_wait(self, bit: int, mask: int) -> bool:
        """Whether an operation that would do the same comes first and has not been used."""
        twin = self.twins.get(bit)
        return twin is not None and not mask & twin

    def _undominated(self, configurations: set[Configuration]) -> set[Configuration]:
        """Without those that differ from another only in having used more of the unknown operations."""
        groups: dict[Configuration, list[int]] = {}
        for state, mask in configurations:
            groups.setdefault((state, mask & ~self.unknown_mask), []).append(mask)
        kept: set[Configuration] = set()
        for (state, _), masks in groups.items():
            fewest: list[int] = []
            for mask in sorted(masks, key=int.bit_count):
                if not any(mask & other == other for other in fewest):
                    fewest.append(mask)
                    kept.add((state, mask))
        return kept

    def _pin(
        self,
        state: Hashable,
        mask: int,
        bit: int,
        seen: set[Configuration],
        todo: list[Configuration],
        done: set[Configuration],
    ) -> None:
        """Observers that fit only by pinning what was not known are steps like any other."""
        for other_bit, other in self.observers.items():
            if other_bit == bit or mask & other_bit:
                continue
            self._count()
            moved = self.model.step(state, other)
            if moved is not None:
                self._note(self._absorb(moved, mask | other_bit), bit, seen, todo, done)

    def _note(
        self,
        configuration: Configuration,
        bit: int,
        seen: set[Configuration],
        todo: list[Configuration],
        done: set[Configuration],
    ) -> None:
        if configuration[1] & bit:
            done.add((configuration[0], configuration[1] & ~bit))
        elif configuration not in seen:
            seen.add(configuration)
            todo.append(configuration)


def _events(operations: Sequence[Operation], model: Model) -> list[tuple[int, int, int]]:
    """(time, 0 for a call or 1 for a return, index): calls first where times are equal."""
    events = []
    for index, op in enumerate(operations):
        if op.returned is None:
            if not model.observes(op):
                events.append((op.call, 0, index))
        else:
            events.append((op.call, 0, index))
            events.append((op.returned, 1, index))
    events.sort()
    return events


def check_object(
    sort: str, key: str, operations: Sequence[Operation], model: Model, steps_max: int = STEPS_MAX
) -> Verdict:
    """Whether one object's operations are linearizable under the model."""
    sweep = _Sweep(model, steps_max)
    bits: dict[int, int] = {}
    culprit = None
    why = ""
    try:
        for _, is_return, index in _events(operations, model):
            culprit = operations[index]
            if not is_return:
                bits[index] = sweep.call(culprit)
            elif not sweep.complete(bits.pop(index), culprit):
                why = f"no order explains {culprit}"
                break
    except _OutOfSteps:
        why = f"undecided after {steps_max} steps, at {culprit}"
    return Verdict(sort, key, not why, why, culprit if why else None, len(operations), sweep.peak)


@dataclass(slots=True)
class Hold:
    """One hold of a fenced lock: when its grant and its release may have taken effect."""

    token: int
    acquire: Operation
    release: Operation | None = None


def holds_of(operations: Sequence[Operation]) -> tuple[list[Hold], str]:
    """The known holds by token, and what is wrong with the tokens ("" = nothing)."""
    holds: dict[int, Hold] = {}
    for op in operations:
        if op.kind == "acquire" and op.ok and op.token is not None:
            if op.token in holds:
                return [], f"token {op.token} was granted twice: to {holds[op.token].acquire.process} and {op.process}"
            holds[op.token] = Hold(op.token, op)
    for op in operations:
        if op.kind in ("release", "lost") and op.ok and op.token in holds:
            hold = holds[op.token]
            if hold.release is None or _ends_before(op, hold.release):
                hold.release = op
    return [holds[token] for token in sorted(holds)], ""


def _ends_before(op: Operation, other: Operation) -> bool:
    """Which of two ends of a hold counts: an answered release, else the one that may have come first."""
    if (op.returned is None) != (other.returned is None):
        return other.returned is None
    return op.call < other.call


def check_fenced(key: str, operations: Sequence[Operation]) -> Verdict:
    """Exact in O(n log n) for grants and releases: tokens give the order, only the times have to fit it.

    A hold without a known end may have ended at any time after its grant.
    """
    holds, why = holds_of(operations)
    time = 0
    culprit: Operation | None = None
    for hold in holds:
        culprit = hold.acquire
        time = max(time, culprit.call)
        if culprit.returned is not None and time > culprit.returned:
            why = f"token {hold.token} was granted by {culprit.returned}, while an earlier token was held until {time}"
            break
        if hold.release is not None:
            culprit = hold.release
            time = max(time, culprit.call)
            if culprit.returned is not None and time > culprit.returned:
                why = f"token {hold.token} was released by {culprit.returned}, before it can have been granted ({time})"
                break
    return Verdict("lock", key, not why, why, culprit if why else None, len(operations))


def check_lock(key: str, operations: Sequence[Operation], steps_max: int = STEPS_MAX) -> Verdict:
    """The exact check of tokens and times, then busy and not-held answers by search."""
    verdict = check_fenced(key, operations)
    if not verdict.ok:
        return verdict
    return check_object("lock", key, with_unseen_ends(operations), FencedLock(), steps_max)


def check(operations: Sequence[Operation], steps_max: int = STEPS_MAX) -> Report:
    """Check every object of a history. Takes operations in any order."""
    objects: dict[tuple[str, str], list[Operation]] = {}
    for op in operations:
        objects.setdefault((KINDS[op.kind], op.key), []).append(op)
    report = Report(operations_count=len(operations))
    report.unknown_count = sum(op.returned is None and op.kind != "lost" for op in operations)
    report.concurrency_peak = concurrency_peak(operations)
    for (sort, key), own in sorted(objects.items()):
        if sort == "lock":
            report.verdicts.append(check_lock(key, own, steps_max))
        else:
            model: Model = Register() if sort == "register" else ConfigKey()
            report.verdicts.append(check_object(sort, key, own, model, steps_max))
    return report


def concurrency_peak(operations: Sequence[Operation]) -> int:
    """The most operations with known outcome that were under way at once."""
    events = sorted(event for op in operations if op.returned is not None for event in ((op.call, 0), (op.returned, 1)))
    running = peak = 0
    for _, is_return in events:
        running += -1 if is_return else 1
        peak = max(peak, running)
    return peak
