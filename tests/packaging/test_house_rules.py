"""Rules of docs and design that no linter knows."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

from .tree import ROOT, committed_files, name_of, python_files

LINES_MAX = 600
FUNCTION_LINES_MAX = 70
BAD_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
# Spelled in pieces, so that this file passes its own test.
MACHINE_PATH = re.compile(r"/(?:root|home/[a-z]+|" + "work" + r"|Users/[a-z]+)/")
REGISTRY_HOST = re.compile(r"(?:pypi|pythonhosted|proxy\.golang|npmjs|crates)" + r"\.(?:org|io)\b")
TEXT = {".py", ".pyi", ".md", ".toml", ".txt", ".proto", ".go", ".mod", ".sum", ".sh", ".yaml", ".yml", ".json", ""}


def texts() -> list[tuple[str, str]]:
    return [(name_of(p), p.read_text(errors="replace")) for p in committed_files() if p.suffix in TEXT]


def test_operator_folder_never_gets_an_init() -> None:
    for folder in ("operator", "tests/operator"):
        assert not (ROOT / folder / "__init__.py").exists(), "it would hide the standard library's operator module"


def test_files_stay_below_600_lines() -> None:
    long = [(name_of(p), n) for p in python_files() if (n := len(p.read_text().splitlines())) >= LINES_MAX]
    assert long == []


def test_functions_stay_within_70_lines() -> None:
    long = []
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or node.lineno) - node.lineno + 1
                if size > FUNCTION_LINES_MAX:
                    long.append((name_of(path), node.name, size))
    assert long == []


def test_no_file_is_named_for_nothing() -> None:
    assert [name_of(p) for p in python_files() if p.stem in BAD_NAMES] == []


def test_no_machine_path_in_any_committed_file() -> None:
    assert [(name, match[0]) for name, text in texts() if (match := MACHINE_PATH.search(text))] == []


def test_no_registry_host_in_any_committed_file() -> None:
    assert [(name, match[0]) for name, text in texts() if (match := REGISTRY_HOST.search(text))] == []


def test_no_uv_lock_is_committed() -> None:
    assert [name_of(p) for p in committed_files() if p.name == "uv.lock"] == []


def test_every_dependency_has_a_line_that_says_why() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text()
    described = set(re.findall(r"^\| `([A-Za-z0-9._-]+)`", text, re.MULTILINE))
    assert declared_dependencies() - described == set()


def declared_dependencies() -> set[str]:
    folders = (".", "raft", "service", "operator")
    root, raft, service, operator = (tomllib.loads((ROOT / name / "pyproject.toml").read_text()) for name in folders)
    lines = [line for part in (raft, service, operator) for line in part["project"]["dependencies"]]
    for extra in service["project"]["optional-dependencies"].values():
        lines += extra
    for group in root["dependency-groups"].values():
        lines += group
    names = {re.split(r"[\[<>=~ ;]", line)[0] for line in lines}
    return names - {"lockmaster", "lockmaster-raft"}


def test_constraints_pin_every_declared_dependency() -> None:
    pinned = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    assert declared_dependencies() - pinned == set()


def test_every_make_target_is_in_help() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = set(re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)[0].split())
    assert phony == set(re.findall(r"^([a-z0-9-]+):.*## ", text, re.MULTILINE))


def test_license_is_the_same_everywhere() -> None:
    texts_of = {Path(ROOT / part / "LICENSE").read_text() for part in (".", "raft", "service", "operator")}
    assert len(texts_of) == 1
