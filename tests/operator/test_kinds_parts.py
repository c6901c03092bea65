"""kinds/: what several kinds' plans need stands in one place."""

from __future__ import annotations

import ast
from pathlib import Path

import lockmaster_operator.kinds


def bodies(path: Path) -> dict[str, str]:
    """Functions of more than two statements: name -> their statements, whatever the annotations say."""
    found = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    return {node.name: ast.dump(ast.Module(node.body, [])) for node in found if len(node.body) > 2}


def test_no_function_of_a_kinds_plan_has_a_twin_in_anothers() -> None:
    seen: dict[str, str] = {}
    twins = []
    for path in sorted(Path(lockmaster_operator.kinds.__file__).parent.glob("*.py")):
        for name, body in bodies(path).items():
            if body in seen:
                twins.append(f"{path.name}: {name} is {seen[body]}")
            seen[body] = f"{path.name}: {name}"
    assert not twins
