"""A stand-in for the API server's admission of custom resources: defaults, schema, CEL rules, by the CRD alone.

The CEL programs run in `common-expression-language`; what Kubernetes adds to the language and the rules use is given
here (quantity, split). tests/operator/test_schemas.py holds the CRDs to the structural rules.
"""

from __future__ import annotations

import copy
import re
from typing import Any

import cel
import jsonschema
from lockmaster_operator.models.crd import KINDS, custom_resource_definition
from lockmaster_operator.models.part import RULES, amount_of

Json = Any
ABSENT = object()


def schema_of(kind: str) -> dict[str, Any]:
    (found,) = (k for k in KINDS if k.kind == kind)
    whole: dict[str, Any] = custom_resource_definition(found)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return whole


def defaulted(schema: dict[str, Any], value: Json) -> Json:
    """The value as it is stored: unknown fields pruned, absent ones with a default filled in, outside in."""
    if isinstance(value, dict) and "properties" in schema:
        known = {name: item for name, item in value.items() if name in schema["properties"] and item is not None}
        for name, inner in schema["properties"].items():
            if name not in known and "default" in inner:
                known[name] = copy.deepcopy(inner["default"])
        return {name: defaulted(schema["properties"][name], item) for name, item in known.items()}
    if isinstance(value, list) and "items" in schema:
        return [defaulted(schema["items"], item) for item in value]
    return value


def _split(text: str, separator: str) -> list[str]:
    return text.split(separator)


def _compare(one: float, other: float) -> int:
    return (one > other) - (one < other)


def _context(names: dict[str, Json]) -> cel.Context:
    context = cel.Context()
    for name, value in names.items():
        context.add_variable(name, value)
    context.add_function("split", _split)
    context.add_function("substring", lambda text, start: text[start:])
    context.add_function("lastIndexOf", lambda text, part: text.rindex(part))
    context.add_function("quantity", amount_of)
    context.add_function("compareTo", _compare)
    return context


def escaped(value: Json) -> Json:
    """Field names that are words of CEL, as Kubernetes spells them there."""
    if isinstance(value, dict):
        return {f"__{k}__" if k == "namespace" else k: escaped(v) for k, v in value.items()}
    return [escaped(item) for item in value] if isinstance(value, list) else value


def broken_rules(schema: dict[str, Any], new: Json, old: Json = ABSENT, path: str = "") -> list[str]:
    """`path: message` of every rule that does not hold. A transition rule runs only where there is an old value."""
    found = []
    for rule in schema.get(RULES, ()):
        transition = re.search(r"\boldSelf\b", rule["rule"]) is not None
        if transition and old is ABSENT:
            continue
        names = {"self": escaped(new)} | ({"oldSelf": escaped(old)} if transition else {})
        if cel.evaluate(rule["rule"], _context(names)) is not True:
            found.append(f"{path}{rule.get('fieldPath', '')}: {rule['message']}")
    if isinstance(new, dict):
        for name, item in new.items():
            inner = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            if isinstance(inner, dict):
                before = old.get(name, ABSENT) if isinstance(old, dict) else ABSENT
                found += broken_rules(inner, item, before, f"{path}.{name}")
    elif isinstance(new, list) and "items" in schema:
        for number, item in enumerate(new):
            found += broken_rules(schema["items"], item, ABSENT, f"{path}[{number}]")
    return found


def repeated_keys(schema: dict[str, Any], value: Json, path: str = "") -> list[str]:
    """Items of list-type map or set that are there twice."""
    found = []
    if isinstance(value, list):
        kind = schema.get("x-kubernetes-list-type")
        keys = [
            tuple(item.get(key) for key in schema["x-kubernetes-list-map-keys"]) if kind == "map" else repr(item)
            for item in value
        ]
        if kind in ("map", "set") and len(set(keys)) != len(keys):
            found.append(f"{path}: Duplicate value")
        for number, item in enumerate(value):
            found += repeated_keys(schema.get("items", {}), item, f"{path}[{number}]")
    elif isinstance(value, dict):
        for name, item in value.items():
            found += repeated_keys(schema.get("properties", {}).get(name, {}), item, f"{path}.{name}")
    return found


def admit(kind: str, new: Json, old: Json | None = None) -> list[str]:
    """What `kubectl apply` would be told, one line per fault; [] when it is taken. `old`: as it was stored."""
    schema = schema_of(kind)
    stored = defaulted(schema, new)
    faults = [
        "." + ".".join(str(part) for part in error.absolute_path) + ": " + error.message
        for error in jsonschema.Draft202012Validator(schema).iter_errors(stored)
    ]
    faults += repeated_keys(schema, stored)
    if faults:
        return faults
    return broken_rules(schema, stored, ABSENT if old is None else defaulted(schema, old))
