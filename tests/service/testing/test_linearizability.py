"""The checker against brute force, on mutated histories, and on planted anomalies (reliability.md layer 6)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from lockmaster.testing.history import Operation
from lockmaster.testing.linearizability import check, check_fenced, check_lock, check_object
from lockmaster.testing.models import ConfigKey, FencedLock, Model, Register

# -- brute force: every order that real time allows, every subset of the unknown


def brute_force(operations: Sequence[Operation], model: Model) -> bool:
    known = [op for op in operations if op.returned is not None]
    optional = [op for op in operations if op.returned is None and not model.observes(op)]

    def search(state: object, left: tuple[Operation, ...], maybe: tuple[Operation, ...]) -> bool:
        if not left:
            return True
        horizon = min(op.returned for op in left if op.returned is not None)
        for index, op in enumerate(left):
            if op.call <= horizon:
                after = model.step(state, op)
                if after is not None and search(after, left[:index] + left[index + 1 :], maybe):
                    return True
        for index, op in enumerate(maybe):
            if op.call <= horizon:
                after = model.step(state, op)
                if after is not None and search(after, left, maybe[:index] + maybe[index + 1 :]):
                    return True
        return False

    return search(model.initial, tuple(known), tuple(optional))


# -- histories of a real object: each operation takes effect between call and return


class Object:
    """A register, key and lock in one, executed for real."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.value: str | None = None
        self.revision = 10
        self.current = 0
        self.token = 0

    def register(self, op: Operation) -> Operation:
        if op.kind == "read":
            return replace(op, value=self.value)
        if op.kind == "cas" and self.value != op.expected:
            return replace(op, ok=False)
        self.value = op.value
        return op

    def config(self, op: Operation) -> Operation:
        if op.kind == "get":
            return replace(op, value=self.value, revision=self.current or None)
        if op.if_revision is not None:
            op = replace(op, if_revision=self.draw.choice([self.current, self.current, 0]))
            if op.if_revision != self.current:
                return replace(op, ok=False, revision=self.current)
        if op.kind == "delete" and self.value is None:
            return replace(op, ok=False)
        self.revision += 1
        self.value = op.value if op.kind == "put" else None
        self.current = self.revision if op.kind == "put" else 0
        return replace(op, revision=self.revision)

    def lock(self, op: Operation) -> Operation:
        if op.kind == "acquire":
            if self.token:
                return replace(op, ok=False)
            self.revision += 1
            self.token = self.revision
            return replace(op, token=self.token)
        if not self.token:
            return replace(op, ok=False, token=self.revision)
        token, self.token = self.token, 0
        return replace(op, token=token)


def history(draw: random.Random, sort: str, count: int, unknown: float = 0.15) -> list[Operation]:
    """`count` operations of up to four processes."""
    thing = Object(draw)
    execute: Callable[[Operation], Operation] = getattr(thing, sort)
    kinds = {"register": ["read", "write", "cas"], "config": ["get", "put", "delete"], "lock": ["acquire", "release"]}
    time = 0
    pending: list[tuple[Operation, bool]] = []
    finished: list[Operation] = []
    started = 0
    while started < count or pending:
        time += 1
        move = draw.random()
        if started < count and len(pending) < 4 and move < 0.45:
            started += 1
            compare = 0 if sort == "config" and draw.random() < 0.3 else None
            value, expected = draw.choice("xyz"), draw.choice("xyz")
            kind = draw.choice(kinds[sort])
            if kind not in ("put", "delete"):
                compare = None
            op = Operation(f"p{started}", kind, "k", time, None, value=value, expected=expected, if_revision=compare)
            pending.append((op, False))
        elif pending:
            index = draw.randrange(len(pending))
            op, done = pending.pop(index)
            if not done and draw.random() < unknown:
                if draw.random() < 0.5:
                    op = replace(execute(op), revision=None, returned=None, ok=True)
                finished.append(op)
            elif not done:
                pending.append((execute(op), True))
            else:
                finished.append(replace(op, returned=time))
    return finished


def mutated(draw: random.Random, operations: list[Operation]) -> list[Operation]:
    """One answer or time changed."""
    changed = list(operations)
    index = draw.randrange(len(changed))
    op = changed[index]
    choice = draw.randrange(4)
    if choice == 0 and op.returned is not None:
        changed[index] = replace(op, returned=op.call + draw.randrange(3))
    elif choice == 1:
        changed[index] = replace(op, value=draw.choice([None, "x", "y", "z"]) if op.kind in ("read", "get") else "x")
    elif choice == 2 and op.revision is not None:
        changed[index] = replace(op, revision=max(1, op.revision + draw.choice([-1, 1])))
    elif op.token is not None:
        changed[index] = replace(op, token=op.token + draw.choice([-1, 1]))
    elif op.kind == "cas":
        changed[index] = replace(op, ok=not op.ok)
    return changed


MODELS: dict[str, Model] = {"register": Register(), "config": ConfigKey(), "lock": FencedLock()}


@pytest.mark.parametrize("sort", sorted(MODELS))
def test_the_search_agrees_with_brute_force(sort: str) -> None:
    draw = random.Random(f"differential {sort}")
    model = MODELS[sort]
    illegal = 0
    for number in range(1_500):
        operations = history(draw, sort, draw.randrange(2, 8))
        if number % 2:
            operations = mutated(draw, mutated(draw, operations))
        expected = brute_force(operations, model)
        assert expected or number % 2, operations
        assert check_object(sort, "k", operations, model).ok is expected, operations
        illegal += not expected
    assert illegal >= 150


def test_the_exact_lock_check_agrees_with_brute_force() -> None:
    draw = random.Random("fenced")
    illegal = 0
    for number in range(3_000):
        operations = [op for op in history(draw, "lock", draw.randrange(2, 9), unknown=0) if op.ok]
        if number % 2 and operations:
            operations = mutated(draw, mutated(draw, operations))
        tokens = [op.token for op in operations if op.kind == "acquire"]
        releases = [op.token for op in operations if op.kind == "release"]
        if len({*tokens}) < len(tokens) or len({*releases}) < len(releases) or not {*releases} <= {*tokens}:
            continue
        ends = {op.token for op in operations if op.kind == "release"}
        full = [*operations]
        full += [
            replace(op, kind="lost", returned=None)
            for op in operations
            if op.kind == "acquire" and op.token not in ends
        ]
        expected = brute_force(full, FencedLock())
        assert check_fenced("k", operations).ok is expected, operations
        assert check_lock("k", operations).ok is expected, operations
        illegal += not expected
    assert illegal >= 50


@pytest.mark.parametrize("sort", sorted(MODELS))
def test_long_histories_of_a_real_object_pass(sort: str) -> None:
    operations = history(random.Random(7), sort, 1_500, unknown=0.002)
    verdict = check_object(sort, "k", operations, MODELS[sort])
    assert verdict.ok, verdict.why


# -- planted anomalies


def op(kind: str, call: int, returned: int | None, **answer: object) -> Operation:
    return Operation("p", kind, "k", call, returned, **answer)  # type: ignore[arg-type]


def is_red(*operations: Operation) -> bool:
    return not check(operations).ok


def test_a_stale_read_is_found_at_the_read() -> None:
    stale = op("get", 5, 6, value="a", revision=1)
    report = check(
        [
            op("put", 1, 2, value="a", revision=1),
            op("put", 3, 4, value="b", revision=2),
            stale,
            op("get", 7, 8, value="b"),
        ]
    )
    assert [failure.culprit for failure in report.failures] == [stale]


def test_a_lost_update_is_found() -> None:
    assert is_red(
        op("put", 1, 2, value="a", revision=1),
        op("put", 3, 6, value="b", revision=2, if_revision=1),
        op("put", 3, 7, value="c", revision=3, if_revision=1),
    )


def test_a_lost_write_is_found() -> None:
    assert is_red(op("put", 1, 2, value="a", revision=1), op("get", 3, 4, value=None))


def test_a_write_that_was_never_made_is_found() -> None:
    assert is_red(op("put", 1, None, value="a"), op("get", 2, 3, value="b", revision=1))


def test_an_unknown_write_may_appear_late_but_not_vanish() -> None:
    unknown = op("put", 1, None, value="a")
    absent = op("get", 2, 3, value=None)
    seen = op("get", 4, 5, value="a", revision=9)
    assert check([unknown, absent, seen]).ok
    assert is_red(unknown, absent, seen, op("get", 6, 7, value=None))


def test_a_write_applied_twice_is_found() -> None:
    assert is_red(
        op("put", 1, 2, value="a", revision=1),
        op("put", 3, 4, value="b", revision=2),
        op("get", 5, 6, value="a", revision=3),
    )


def test_a_revision_that_goes_back_is_found() -> None:
    assert is_red(op("put", 1, 2, value="a", revision=5), op("put", 3, 4, value="b", revision=4))


def test_a_double_grant_is_found() -> None:
    first, second = op("acquire", 1, 2, token=1), op("acquire", 3, 4, token=2)
    assert is_red(first, second, op("release", 5, 6, token=1))


def test_a_token_granted_twice_is_found() -> None:
    assert is_red(op("acquire", 1, 2, token=1), op("acquire", 3, 4, token=1))


def test_a_token_that_does_not_rise_is_found() -> None:
    assert is_red(
        op("acquire", 1, 2, token=5),
        op("release", 3, 4, token=5),
        op("acquire", 5, 6, token=4),
        op("release", 7, 8, token=4),
    )


def test_a_resurrected_lock_is_found() -> None:
    assert is_red(
        op("acquire", 1, 2, token=1),
        op("lost", 3, None, token=1),
        op("acquire", 5, 6, token=2),
        op("release", 7, 8, token=1),
    )


def test_a_grant_before_the_holder_can_have_expired_is_found() -> None:
    assert is_red(op("acquire", 1, 2, token=1), op("lost", 10, None, token=1), op("acquire", 3, 4, token=2))


def test_a_grant_after_a_holder_vanished_unseen_is_no_fault() -> None:
    assert check([op("acquire", 1, 2, token=1), op("acquire", 3, 4, token=2)]).ok


def test_busy_on_a_free_lock_is_found() -> None:
    assert is_red(op("acquire", 1, 2, token=1), op("release", 3, 4, token=1), op("acquire", 5, 6, ok=False))


def test_a_write_of_the_value_that_is_there_is_not_absorbed() -> None:
    """The trap of raft-bugs.md: taking `again` early would leave the second read without a writer."""
    assert check(
        [
            op("write", 1, 2, value="x"),
            op("write", 3, 20, value="x"),
            op("write", 4, 5, value="y"),
            op("read", 6, 7, value="y"),
            op("read", 8, 9, value="x"),
        ]
    ).ok


def test_undecided_is_red() -> None:
    writes = [op("write", 1, 100, value=str(number)) for number in range(20)]
    report = check([*writes, op("read", 101, 102, value="none of them")], steps_max=1_000)
    assert not report.ok
    assert "undecided" in report.failures[0].why


def test_keys_are_checked_apart() -> None:
    other = Operation("p", "get", "other", 5, 6, value="never written", revision=1)
    report = check([op("put", 1, 2, value="a", revision=1), other])
    assert [failure.key for failure in report.failures] == ["other"]


def test_the_report_counts_what_happened() -> None:
    report = check([op("put", 1, 5, value="a", revision=1), op("get", 2, 3, value=None), op("put", 4, None, value="b")])
    assert (report.operations_count, report.unknown_count, report.concurrency_peak) == (3, 1, 2)
