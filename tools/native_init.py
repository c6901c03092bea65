"""Writes out the `__init__` of records and dataclasses in a module that mypyc is to compile.

`dataclass` makes one at run time, which stays interpreted: for an object of six fields 220 ns, and 770 where it is
frozen (which `@record`, that mypyc doesn't know, would have to become), against 30 of a compiled one.
"""

from __future__ import annotations

import ast

DATACLASS, RECORD = "dataclass", "record"
IMPORT_OF_RECORD = "from lockmaster_raft.record import record\n"
IMPORT_OF_DATACLASS = "from dataclasses import dataclass\n"


def with_native_init(text: str) -> str:
    """The module's text; classes with bases, default factories or `__post_init__` keep the `__init__` they get."""
    lines = text.splitlines()
    classes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)]
    for node in sorted(classes, key=lambda each: each.lineno, reverse=True):
        found = next((each for each in node.decorator_list if _name(each) in (DATACLASS, RECORD)), None)
        if found is None:
            continue
        if found.lineno != found.end_lineno:
            raise ValueError(f"{node.name}: a decorator of more than one line")
        options = _options(found)
        initialiser = _initialiser(node)
        if initialiser:
            lines[node.end_lineno : node.end_lineno] = initialiser
            options["init"] = "False"
        said = ", ".join(f"{name}={value}" for name, value in options.items())
        lines[found.lineno - 1] = f"{' ' * (found.col_offset - 1)}@{DATACLASS}({said})"
    return "\n".join(lines).replace(IMPORT_OF_RECORD, IMPORT_OF_DATACLASS) + "\n"


def _name(decorator: ast.expr) -> str:
    call = decorator.func if isinstance(decorator, ast.Call) else decorator
    return call.id if isinstance(call, ast.Name) else ""


def _options(decorator: ast.expr) -> dict[str, str]:
    """What the compiled class's decorator is given: a frozen one is hashed by value and not frozen, as a record is."""
    given = {each.arg or "": ast.unparse(each.value) for each in getattr(decorator, "keywords", ())}
    given.pop("slots", None)  # a compiled class has no __dict__ anyway
    frozen = given.pop("frozen", "False") == "True" or _name(decorator) == RECORD
    return {**given, "unsafe_hash": "True"} if frozen and given.get("eq") != "False" else given


def _initialiser(node: ast.ClassDef) -> list[str]:
    """The lines of `__init__`; none where it can't be told from the fields alone."""
    fields = [each for each in node.body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)]
    methods = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
    plain = all(each.value is None or not isinstance(each.value, ast.Call) for each in fields)
    if node.bases or not fields or not plain or methods & {"__init__", "__post_init__"}:
        return []
    inner = " " * (node.body[0].col_offset)
    parameters, assignments = [], []
    for each in fields:
        name = ast.unparse(each.target)
        default = "" if each.value is None else f" = {ast.unparse(each.value)}"
        parameters.append(f"{name}: {ast.unparse(each.annotation)}{default}")
        assignments.append(f"{inner}    self.{name} = {name}")
    return ["", f"{inner}def __init__(self, {', '.join(parameters)}) -> None:", *assignments]
