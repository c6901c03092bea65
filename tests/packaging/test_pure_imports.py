"""architecture.md, arrows: the parts that decide import nothing that looks at a clock, the network or chance."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from .tree import ROOT, name_of

IMPURE = {
    "asyncio", "concurrent", "datetime", "io", "logging", "multiprocessing", "os", "pathlib", "queue", "random",
    "secrets", "selectors", "signal", "socket", "ssl", "subprocess", "tempfile", "threading", "time", "uuid",
}  # fmt: skip
PURE_FILES = ["service/src/lockmaster/client/policy.py", "operator/src/lockmaster_operator/observed.py"]
PURE_FOLDERS = [
    "raft/src/lockmaster_raft",
    "service/src/lockmaster/statemachine",
    "operator/src/lockmaster_operator/desired",
    "operator/src/lockmaster_operator/plan",
]


def pure_modules() -> list[Path]:
    found = [path for folder in PURE_FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    found += [ROOT / name for name in PURE_FILES if (ROOT / name).exists()]
    return [path for path in found if "/lockmaster_raft/testing/" not in path.as_posix()]


def imported(path: Path) -> set[str]:
    """Top-level names of every module that the file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", pure_modules(), ids=name_of)
def test_module_that_decides_imports_no_clock_network_or_chance(path: Path) -> None:
    assert imported(path) & IMPURE == set()
