"""When the operator's alerts fire: their expressions, evaluated over the page of an operator's own metrics.

Only of what they are made of: selectors, numbers, comparisons, `and`, `or`, `unless`, `max by`. `for` is not waited.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any, Final

import promql_parser
import pytest
from lockmaster_operator.host.app import RESYNC_AGE_MAX_S, RESYNC_S
from lockmaster_operator.host.metrics import Metrics
from lockmaster_operator.models.conditions import Condition, Truth
from lockmaster_operator.models.lock_cluster_status import LockClusterStatus
from prometheus_client.parser import text_string_to_metric_families

from .test_monitoring import rules

Labels = frozenset[tuple[str, str]]
Vector = list[tuple[Labels, float]]
NAME: Final = "__name__"
COMPARE: Final = {"==": operator.eq, "<": operator.lt, ">": operator.gt}
DOWN: Final = {
    "LockmasterQuorumUnavailable", "LockmasterOneCopy", "LockmasterNoMargin", "LockmasterNotReady",
}  # fmt: skip
"""What fires while a cluster has no pods and should."""
KEY = ("ns", "locks")
ID: Final = 32 * "a"
SCRAPED: Final = 60
"""Seconds between two scrapes, and between two evaluations, of a Prometheus with its own defaults."""


def samples(page: bytes) -> Vector:
    families = text_string_to_metric_families(page.decode())
    return [
        (frozenset({NAME: sample.name, **sample.labels}.items()), sample.value)
        for family in families
        for sample in family.samples
    ]


def without(labels: Labels, name: str) -> Labels:
    return frozenset(row for row in labels if row[0] != name)


def only(labels: Labels, names: Iterable[str]) -> Labels:
    return frozenset(row for row in labels if row[0] in names)


def joined(node: Any, left: Vector, right: Vector) -> Vector:
    """`and`, `or`, `unless`, by the labels in `on (…)`, else by all but the name."""
    on = node.modifier.matching.labels if node.modifier is not None and node.modifier.matching is not None else None

    def key(labels: Labels) -> Labels:
        return without(labels, NAME) if on is None else only(labels, on)

    there, here = {key(labels) for labels, _ in right}, {key(labels) for labels, _ in left}
    match str(node.op):
        case "and":
            return [row for row in left if key(row[0]) in there]
        case "unless":
            return [row for row in left if key(row[0]) not in there]
        case "or":
            return left + [row for row in right if key(row[0]) not in here]
    raise AssertionError(f"not one of these: {node.op}")


def evaluate(node: Any, page: Vector) -> Vector:
    match node:
        case promql_parser.ParenExpr():
            return evaluate(node.expr, page)
        case promql_parser.VectorSelector():
            wanted = {(NAME, str(node.name)), *((each.name, each.value) for each in node.matchers.matchers)}
            return [row for row in page if wanted <= row[0]]
        case promql_parser.AggregateExpr():
            groups: dict[Labels, float] = {}
            for labels, value in evaluate(node.expr, page):
                kept = only(labels, node.modifier.labels if node.modifier is not None else ())
                groups[kept] = max(value, groups.get(kept, value))
            return list(groups.items())
        case promql_parser.BinaryExpr() if isinstance(node.rhs, promql_parser.NumberLiteral):
            compare: Callable[[float, float], bool] = COMPARE[str(node.op)]
            return [row for row in evaluate(node.lhs, page) if compare(row[1], node.rhs.val)]
        case promql_parser.BinaryExpr():
            return joined(node, evaluate(node.lhs, page), evaluate(node.rhs, page))
    raise AssertionError(f"not one of these: {node}")


def expression(alert: str) -> str:
    (found,) = [str(rule["expr"]) for rule in rules() if rule["alert"] == alert]
    return found


def fires(alert: str, metrics: Metrics) -> bool:
    return evaluate(promql_parser.parse(expression(alert)), samples(metrics.page())) != []


def condition(kind: str, status: Truth) -> Condition:
    return Condition(type=kind, status=status, reason="Any", last_transition_time="2026-01-01T00:00:00Z")


def told(*, hibernated: bool = False, paused: bool = False, stalled: bool = False, founded: bool = True) -> Metrics:
    """Of a cluster without pods."""
    states = {"Ready": False, "QuorumAvailable": False, "Paused": paused} | ({"Stalled": True} if stalled else {})
    conditions = tuple(condition(kind, Truth.TRUE if yes else Truth.FALSE) for kind, yes in states.items())
    metrics = Metrics()
    metrics.tell(
        ("ns", "other"), LockClusterStatus(cluster_id=ID, quorum_margin=1, full_copies=2), hibernated=not hibernated
    )
    metrics.tell(KEY, LockClusterStatus(cluster_id=ID if founded else "", conditions=conditions), hibernated=hibernated)
    return metrics


@pytest.mark.parametrize("alert", sorted(DOWN))
def test_a_cluster_that_hibernates_is_not_told_as_one_that_is_down(alert: str) -> None:
    assert fires(alert, told())
    assert not fires(alert, told(hibernated=True))


def test_a_cluster_that_was_never_founded_has_neither_quorum_nor_copies_to_lose() -> None:
    assert [alert for alert in sorted(DOWN) if fires(alert, told(founded=False))] == ["LockmasterNotReady"]


def test_a_paused_cluster_raises_no_alarm_about_its_quorum() -> None:
    assert not fires("LockmasterQuorumUnavailable", told(paused=True))
    assert fires("LockmasterPaused", told(paused=True))


def test_a_spec_that_cannot_be_worked_on_raises_an_alarm() -> None:
    assert fires("LockmasterStalled", told(stalled=True))
    assert not fires("LockmasterStalled", told())


def operating(age_s: float, *, leads: bool) -> Metrics:
    metrics = Metrics()
    metrics.observe(0, age_s, 0.0, leads)
    return metrics


def test_a_blind_operator_raises_an_alarm_and_one_that_waits_for_the_lease_does_not() -> None:
    assert fires("LockmasterOperatorBlind", operating(RESYNC_AGE_MAX_S - 1, leads=True))
    assert not fires("LockmasterOperatorBlind", operating(2 * RESYNC_S, leads=True))
    assert not fires("LockmasterOperatorBlind", operating(10 * RESYNC_AGE_MAX_S, leads=False))


def test_the_alarm_about_a_blind_operator_comes_before_its_restart() -> None:
    """Found when it was scraped, and evaluated, as late as can be, and then for as long as it asks for."""
    (rule,) = [rule for rule in rules() if rule["alert"] == "LockmasterOperatorBlind"]
    threshold = int(expression("LockmasterOperatorBlind").rpartition("> ")[2])
    assert rule["for"] == "1m"
    probes = 40  # the third failure of a probe every 20 s
    assert threshold + 2 * SCRAPED + 60 < RESYNC_AGE_MAX_S + probes
