"""ConfigSet: the plan in a simulated store, table by table and at random (operator.md §1)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lockmaster import rollout
from lockmaster_operator.kinds.config_sets import (
    FINALIZER,
    STEPS_MAX,
    ConfigSet,
    DeleteKey,
    GateAnswer,
    Observed,
    Plan,
    PutKey,
    SetFinalizer,
    Stored,
    plan,
)
from lockmaster_operator.models.conditions import condition_of
from lockmaster_operator.models.config_set import ConfigSetSpec, ConfigSetStatus

NOW = 1_800_000_000
GATE = {"name": "errors", "http": {"url": "http://probe/"}}
CANARY = {"strategy": "Canary", "steps": [{"percent": 10, "bake": "1m"}, {"percent": 50, "bake": "1m"}]}


def spec(**given: Any) -> ConfigSetSpec:
    base = {"clusterRef": {"name": "locks"}, "namespace": "billing", "data": {"rate": "5"}}
    return ConfigSetSpec.model_validate({**base, **given})


@dataclass
class Store:
    """A cluster's keys, and one ConfigSet with its status."""

    own: ConfigSet
    keys: dict[tuple[str, str], Stored] = field(default_factory=dict)
    revision: int = 0
    now: int = NOW
    status: ConfigSetStatus = field(default_factory=ConfigSetStatus)
    gates: tuple[GateAnswer, ...] = ()
    others: dict[str, tuple[str, str]] = field(default_factory=dict)
    written: int = 0

    def put(self, namespace: str, key: str, value: bytes, author: str = "somebody") -> None:
        self.revision += 1
        self.keys[namespace, key] = Stored(value, self.revision, author)

    def of(self, namespace: str, prefix: str = "") -> dict[str, Stored]:
        return {k: v for (ns, k), v in self.keys.items() if ns == namespace and k.startswith(prefix)}

    def values(self) -> dict[str, str]:
        return {key: one.value.decode() for key, one in self.of("billing").items()}

    def record(self) -> rollout.Record | None:
        found = self.keys.get((rollout.RECORDS, f"billing/{self.own.uid}"))
        return rollout.decode(found.value) if found is not None else None

    def look(self) -> Observed:
        record = self.keys.get((rollout.RECORDS, f"billing/{self.own.uid}"))
        tried = self.of(rollout.CANARY, f"{self.own.uid}/")
        return Observed(
            status=self.status,
            keys=self.of("billing", self.own.spec.prefix),
            canary_keys={key.removeprefix(f"{self.own.uid}/"): one for key, one in tried.items()},
            record=self.record(),
            record_revision=record.revision if record is not None else 0,
            gates=self.gates,
            others=self.others,
        )

    def step(self) -> Plan:
        decided = plan(self.own, self.look(), self.now)
        assert len(decided.steps) <= STEPS_MAX + 1
        self.status = decided.status
        for step in decided.steps:
            self.carry_out(step)
        return decided

    def carry_out(self, step: object) -> None:
        if isinstance(step, SetFinalizer):
            self.own = replace(self.own, finalizers=(FINALIZER,) if step.present else ())
            return
        assert isinstance(step, PutKey | DeleteKey)
        stored = self.keys.get((step.namespace, step.key))
        assert step.if_revision == (stored.revision if stored is not None else 0)
        self.written += 1
        if isinstance(step, PutKey):
            self.put(step.namespace, step.key, step.value, self.own.author)
        else:
            del self.keys[step.namespace, step.key]

    def settle(self, passes: int = 30) -> None:
        for _ in range(passes):
            if not self.step().steps:
                return
        raise AssertionError(f"not settled after {passes} passes")

    def declare(self, new: ConfigSetSpec) -> None:
        self.own = replace(self.own, spec=new, generation=self.own.generation + 1)

    def says(self, kind: str) -> tuple[str, str]:
        found = condition_of(self.status.conditions, kind)
        assert found is not None
        return found.status.value, found.reason


def store(**given: Any) -> Store:
    return Store(ConfigSet("tariffs", "ns", "uid-1", 1, "2026-01-02T00:00:00Z", spec(**given)))


def test_keys_are_written_once_and_then_nothing_is() -> None:
    world = store(data={"rate": "5", "limit": "9"}, prefix="a/")
    world.settle()
    assert world.values() == {"a/rate": "5", "a/limit": "9"}
    assert (world.says("Ready"), world.says("InSync")) == (("True", "AsDeclared"), ("True", "AsDeclared"))
    quiet, status = world.written, world.status
    world.now += 1000
    world.settle()
    assert (world.written, world.status) == (quiet, status)


def test_a_key_no_longer_declared_goes_and_another_author_s_stays() -> None:
    world = store(data={"rate": "5", "old": "1"})
    world.put("billing", "theirs", b"x")
    world.settle()
    world.declare(spec())
    world.settle()
    assert world.values() == {"rate": "5", "theirs": "x"}


@pytest.mark.parametrize(("policy", "after"), [("Correct", "5"), ("Report", "7")])
def test_drift_is_put_back_or_only_told(policy: str, after: str) -> None:
    world = store(driftPolicy=policy)
    world.settle()
    world.put("billing", "rate", b"7")
    assert world.step().status.conflicts[0].key == "rate"
    assert world.says("InSync") == ("False", "DriftFound")
    world.settle()
    assert world.values() == {"rate": after}


def test_what_is_declared_anew_is_written_even_where_drift_is_only_reported() -> None:
    world = store(driftPolicy="Report")
    world.settle()
    world.put("billing", "rate", b"7")
    world.declare(spec(driftPolicy="Report", data={"rate": "8"}))
    world.settle()
    assert world.values() == {"rate": "8"}


@pytest.mark.parametrize(("created", "wins"), [("2026-01-01T00:00:00Z", False), ("2026-01-03T00:00:00Z", True)])
def test_of_two_config_sets_the_older_one_has_the_key(created: str, wins: bool) -> None:
    world = store()
    world.put("billing", "rate", b"theirs", "configset/uid-2")
    world.others = {"configset/uid-2": (created, "other")}
    world.settle()
    assert world.values() == {"rate": "5" if wins else "theirs"}
    assert world.says("Ready") == (("True", "AsDeclared") if wins else ("False", "Conflict"))
    assert [row.owner for row in world.status.conflicts] == ([] if wins else ["other"])


def begun(**given: Any) -> Store:
    """A canary of rate 6 on 10 % of the clients."""
    rollout_spec = {**CANARY, "gates": [GATE]}
    world = store(rollout=rollout_spec)
    world.settle()
    world.declare(spec(rollout=rollout_spec, data={"rate": "6"}, **given))
    world.settle()
    return world


def percent(world: Store) -> int:
    record = world.record()
    assert record is not None
    return record.canary.percent if record.canary is not None else -1


def test_a_canary_leaves_the_stable_keys_until_every_step_has_baked() -> None:
    world = begun()
    seen = []
    world.gates = (GateAnswer("errors", True),)
    for _ in range(12):
        seen.append((percent(world), world.values()["rate"]))
        world.now += 30
        world.step()
    world.settle()
    assert list(dict.fromkeys(seen)) == [(10, "5"), (50, "5"), (100, "5"), (100, "6"), (-1, "6")]
    assert world.of(rollout.CANARY) == {}
    assert world.status.rollout.percent == 100


def test_a_gate_that_fails_rolls_back_by_itself_and_the_same_content_is_not_tried_again() -> None:
    world = begun()
    world.gates = (GateAnswer("errors", False, "0.2 is above 0.01"),)
    world.settle()
    assert (percent(world), world.values(), world.of(rollout.CANARY)) == (0, {"rate": "5"}, {})
    assert world.says("Degraded") == ("True", "RolledBack")
    assert world.status.rollout.failed_gate == "errors"
    world.gates = (GateAnswer("errors", True),)
    world.now += 10_000
    world.settle()
    assert percent(world) == 0
    world.declare(spec(rollout=world.own.spec.rollout.model_dump(by_alias=True), data={"rate": "7"}))
    world.settle()
    assert percent(world) == 10


@pytest.mark.parametrize("gates", [(), (GateAnswer("errors", None, "away"),)])
def test_a_gate_that_could_not_be_asked_holds_the_step(gates: tuple[GateAnswer, ...]) -> None:
    world = begun()
    world.gates = gates
    world.now += 10_000
    assert world.step().asks_gates
    assert percent(world) == 10


def test_paused_stands_where_it_is() -> None:
    world = begun(paused=True)
    assert world.step().steps == ()
    assert world.says("Ready") == ("True", "Paused")


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
def test_deletion_obeys_its_policy(policy: str) -> None:
    world = store(deletionPolicy=policy)
    world.put("billing", "theirs", b"x")
    world.settle()
    assert world.own.finalizers == ((FINALIZER,) if policy == "Delete" else ())
    world.own = replace(world.own, deleting=True)
    world.settle()
    assert world.values() == ({"theirs": "x"} if policy == "Delete" else {"theirs": "x", "rate": "5"})
    assert world.own.finalizers == ()


def test_a_cluster_that_is_gone_holds_no_finalizer() -> None:
    own = replace(store(deletionPolicy="Delete").own, deleting=True, finalizers=(FINALIZER,))
    gone = plan(own, Observed(cluster_there=False, problem="gone"), NOW)
    away = plan(own, Observed(problem="no answer"), NOW)
    assert (gone.steps, away.steps) == ((SetFinalizer(False),), ())


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"files": [{"configMap": {"name": "m"}}], "data": {}}, "files[0].configMap"),
        ({"files": [{"configMap": {"name": "many"}}]}, "1026 keys"),
        ({"data": {f"k{n}": "x" * 262_144 for n in range(33)}}, "at most 8388608"),
    ],
)
def test_what_the_schema_cannot_know_is_told_by_a_condition(given: dict[str, Any], named: str) -> None:
    files = {"many": {f"k{n}": b"" for n in range(1025)}}
    decided = plan(store(**given).own, Observed(files=files), NOW)
    ready = condition_of(decided.status.conditions, "Ready")
    assert ready is not None
    assert (ready.reason, named in ready.message, decided.steps) == ("InvalidSpec", True, ())


VALUES = st.dictionaries(st.sampled_from("abc"), st.sampled_from("123"), min_size=1)
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("declare"), VALUES, st.booleans()),
        st.tuples(st.just("drift"), st.sampled_from("abcd"), st.sampled_from("123")),
        st.tuples(st.just("pass"), st.integers(0, 200), st.sampled_from([True, False, None])),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(ACTS)
def test_whatever_happens_it_converges_and_never_touches_another_s_key(acts: list[tuple[Any, ...]]) -> None:
    world = store()
    world.put("billing", "z", b"theirs", "configset/uid-0")
    world.others = {"configset/uid-0": ("2025-01-01T00:00:00Z", "older")}
    for act in acts:
        match act:
            case ("declare", data, canary):
                gates = {**CANARY, "gates": [GATE]} if canary else {"strategy": "All"}
                world.declare(spec(data={**data, "z": "mine"}, rollout=gates))
            case ("drift", key, value):
                world.put("billing", key, value.encode())
            case ("pass", seconds, holds):
                world.now += seconds
                world.gates = (GateAnswer("errors", holds),)
                world.step()
    world.gates = (GateAnswer("errors", True),)
    for _ in range(8):
        world.settle()
        world.now += 61
    assert world.values()["z"] == "theirs"
    if world.status.rollout.failed_gate:
        return
    for key, value in world.own.spec.data.items():
        assert world.values()[key] == ("theirs" if key == "z" else value)
    assert world.of(rollout.CANARY) == {}


def test_the_share_of_a_canary_grows_and_nobody_falls_out() -> None:
    record = rollout.Record("u", "billing", canary=rollout.Canary("h", 1, 0, 0, 0))
    clients = [f"pod-{n}:1" for n in range(2000)]
    before: set[str] = set()
    for share in (0, 5, 25, 50, 100):
        assert record.canary is not None
        record = replace(record, canary=replace(record.canary, percent=share))
        now = {one for one in clients if rollout.in_canary(record, one)}
        assert before <= now
        assert abs(len(now) / 20 - share) < 3
        before = now
    assert rollout.decode(record.encode()) == record
    assert rollout.decode(b"[]") is None
