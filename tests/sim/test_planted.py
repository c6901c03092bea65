"""Every rule of the simulator is seen to fire: at each place where one raises, a planted history makes it raise.

That all is well on healthy clusters says nothing of a rule that can't fire. Here the places are counted in the sources,
so a new rule, or a new clause of one, fails this file until it has a history of its own.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import lockmaster.testing
import lockmaster_raft.testing
import pytest
from lockmaster_raft.testing.invariants import ALL
from lockmaster_raft.testing.invariants.base import Invariant, Violation
from lockmaster_raft.testing.invariants.rare_events import RareEvents

from . import plants_raft, plants_service
from .plants import BY_RULE, ELSEWHERE

FOLDERS = tuple(Path(inspect.getfile(package)).parent for package in (lockmaster_raft.testing, lockmaster.testing))
MODULES = (plants_raft, plants_service)
Place = tuple[str, int]
"""File and line of a statement that raises."""


def places() -> dict[Place, str]:
    """Where a rule raises in the simulator: the first line, and what stands there."""
    found: dict[Place, str] = {}
    for path in sorted(path for folder in FOLDERS for path in folder.rglob("*.py") if path.name != "base.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Expr | ast.Raise) and _raises(node):
                found |= {(str(path), node.lineno): f"{path.name}: {ast.unparse(node)}"}
    return found


def _raises(node: ast.Expr | ast.Raise) -> bool:
    call = node.value if isinstance(node, ast.Expr) else node.exc
    return isinstance(call, ast.Call) and ast.unparse(call.func) == (
        "self.fail" if isinstance(node, ast.Expr) else "Violation"
    )


def raised_at(run: Callable[[], None], rule: str = "") -> Place:
    """Where the violation came from; `rule` must be the one that is violated."""
    with pytest.raises(Violation) as caught:
        run()
    assert not rule or caught.value.rule == rule
    frames = []
    trace: TracebackType | None = caught.tb
    while trace is not None:
        frames.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    file, line = frames[-2] if Path(frames[-1][0]).name == "base.py" else frames[-1]
    return file, line


@pytest.mark.parametrize(("kind", "run"), [pytest.param(kind, run, id=name) for name, kind, run in BY_RULE])
def test_a_planted_violation_is_found_by_its_own_rule(kind: type[Invariant], run: Callable[[], None]) -> None:
    file, _ = raised_at(run, kind.rule)
    assert file == inspect.getfile(kind)


@pytest.mark.parametrize("run", [pytest.param(run, id=name) for name, run in ELSEWHERE])
def test_a_planted_violation_is_found_outside_of_the_rules(run: Callable[[], None]) -> None:
    assert raised_at(run)[0] in {file for file, _ in places()}


def test_every_rule_has_a_planted_violation() -> None:
    assert [kind for kind in ALL if kind is not RareEvents and kind not in {kind for _, kind, _ in BY_RULE}] == []


def test_every_place_that_raises_has_been_seen_to() -> None:
    seen = {raised_at(run) for run in (*(run for _, _, run in BY_RULE), *(run for _, run in ELSEWHERE))}
    assert sorted(text for place, text in places().items() if place not in seen) == []
