"""docs/operations/runbooks.md: a section for each alert and condition, a row for each reason and event in the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml
from lockmaster_operator.models.lock_cluster_status import Phase

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/operations/runbooks.md"
OPERATOR = ROOT / "operator/src/lockmaster_operator"
WORD = re.compile(r"[A-Z][a-z]+(?:[A-Z][a-z]+)*")
CONDITIONS = (
    "Ready", "Progressing", "Degraded", "QuorumAvailable", "WitnessGate", "UpgradeBlocked", "Paused", "Stalled",
    "InSync", "Missed",
)  # fmt: skip
NO_REASONS = {
    *CONDITIONS,
    # kinds of objects and of steps, and words of their fields
    "StatefulSet", "PodDisruptionBudget", "AlwaysAllow", "IfHealthyBudget", "LockCluster", "ConfigSet", "LockBackup",
    "LockRestore", "QuorumRecovery", "Lock", "Service", "Secret", "Job", "Pod", "Never", "Always", "Directory",
    "Normal", "Warning", "True", "False", "Unknown", "Retain", "Delete", "Operation", "Member", "ConfigMap",
    "ServiceAccount",
}  # fmt: skip


def reasons() -> dict[str, str]:
    """Word: file, of every CamelCase text in what decides: reasons, and names that NO_REASONS takes out again."""
    found: dict[str, str] = {}
    for folder in ("plan", "kinds"):
        for path in sorted((OPERATOR / folder).glob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and WORD.fullmatch(node.value):
                    found[node.value] = path.name
    for phase in Phase:  # Degraded and events: f"Member{phase}"; Progressing: the phase itself
        found[phase.value] = found[f"Member{phase.value}"] = "lock_cluster_status.py"
    classes = {
        node.name
        for path in OPERATOR.glob("plan/*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    }
    return {word: where for word, where in found.items() if word not in NO_REASONS and word not in classes}


def explained() -> set[str]:
    """What stands in code marks in the first cell of a row."""
    rows = [line.split("|")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    return {word for cell in rows for word in re.findall(r"`(\w+)`", cell)}


def headings() -> list[str]:
    return [line.lstrip("# ") for line in PAGE.read_text().splitlines() if line.startswith("### ")]


@pytest.mark.parametrize("word", sorted(reasons()))
def test_every_reason_has_its_row(word: str) -> None:
    assert word in explained(), f"{word} ({reasons()[word]}): say in {PAGE.name} what it means and what to do"


@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_condition_has_its_section(condition: str) -> None:
    assert condition in headings()


def test_every_alert_has_the_section_that_its_runbook_url_names() -> None:
    groups = yaml.safe_load((ROOT / "charts/lockmaster-operator/files/rules.yaml").read_text())["groups"]
    alerts = [rule["alert"] for group in groups for rule in group["rules"]]
    assert [name for name in alerts if name not in headings()] == []


def test_every_alert_names_a_command() -> None:
    sections = PAGE.read_text().split("\n### ")
    for section in sections:
        if section.startswith("Lockmaster"):
            assert "`kubectl" in section or "`lockmaster" in section, section.splitlines()[0]
