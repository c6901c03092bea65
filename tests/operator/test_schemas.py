"""The CRDs are structural schemas that the API server takes, and the chart holds what the models say."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cel
import jsonschema
import pytest
from lockmaster_operator.models.crd import KINDS, Kind, custom_resource_definition
from lockmaster_operator.models.part import RULES

from .admission import broken_rules, defaulted

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = {
    "$ref", "$defs", "definitions", "anyOf", "oneOf", "allOf", "not", "const", "title", "examples", "dependencies",
    "deprecated", "id", "patternProperties", "writeOnly", "readOnly", "xml", "discriminator",
}  # fmt: skip
KUBERNETES_WORDS = {
    RULES, "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-preserve-unknown-fields",
}  # fmt: skip
FORMATS = {"date-time", "int64"}
RULE_BYTES_MAX = 512
CRD_BYTES_MAX = 60_000
"""All of them go into one Helm release Secret of at most 1 MiB."""


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], f"{path}[]")


def every_node() -> list[tuple[str, dict[str, Any]]]:
    found = []
    for kind in KINDS:
        root = custom_resource_definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        found += list(nodes(root, kind.kind))
    return found


NODES = every_node()


def faulty(condition: Any) -> list[str]:
    return [path for path, node in NODES if condition(node)]


def test_every_node_has_one_type() -> None:
    types = ("object", "array", "string", "integer", "number", "boolean")
    assert faulty(lambda node: node.get("type") not in types) == []


def test_no_node_has_a_keyword_that_a_structural_schema_forbids() -> None:
    assert faulty(lambda node: set(node) & FORBIDDEN) == []


def test_only_known_kubernetes_words_are_used() -> None:
    assert faulty(lambda node: {k for k in node if k.startswith("x-")} - KUBERNETES_WORDS) == []


def test_formats_are_ones_that_kubernetes_checks() -> None:
    assert faulty(lambda node: node.get("format", "int64") not in FORMATS) == []


def test_properties_and_free_keys_exclude_each_other() -> None:
    assert faulty(lambda node: "properties" in node and "additionalProperties" in node) == []


def test_every_object_says_what_is_in_it() -> None:
    """Else the API server would prune all of it: a pattern on a map's keys, for one, becomes a keyword it lacks."""

    def wrong(node: dict[str, Any]) -> bool:
        words = {"properties", "additionalProperties", "x-kubernetes-preserve-unknown-fields"}
        return node["type"] == "object" and not words & set(node)

    roots = {f"{kind.kind}.metadata" for kind in KINDS}
    assert [path for path in faulty(wrong) if path not in roots] == []


def test_every_required_field_is_a_property_without_default() -> None:
    def wrong(node: dict[str, Any]) -> bool:
        properties = node.get("properties", {})
        return any(name not in properties or "default" in properties[name] for name in node.get("required", ()))

    assert faulty(wrong) == []


def test_every_list_says_how_it_merges_and_how_long_it_may_be() -> None:
    def wrong(node: dict[str, Any]) -> bool:
        return node["type"] == "array" and not {"x-kubernetes-list-type", "maxItems", "items"} <= set(node)

    assert faulty(wrong) == []


def test_every_text_and_map_has_a_maximum() -> None:
    """The API server prices CEL rules by them, and nothing that is stored may be without end."""

    def wrong(node: dict[str, Any]) -> bool:
        if node["type"] == "string":
            return not ({"maxLength", "enum", "format"} & set(node))
        return "additionalProperties" in node and "maxProperties" not in node

    roots = {f"{kind.kind}.{name}" for kind in KINDS for name in ("apiVersion", "kind")}
    assert [path for path in faulty(wrong) if path not in roots] == []


def test_keys_of_a_list_map_are_required_texts_or_numbers_of_its_items() -> None:
    def wrong(node: dict[str, Any]) -> bool:
        keys = node.get("x-kubernetes-list-map-keys", ())
        items = node.get("items", {})
        return any(k not in items["properties"] or k not in items.get("required", ()) for k in keys)

    assert faulty(wrong) == []


def test_every_spec_and_status_field_is_described() -> None:
    silent = []
    for path, node in NODES:
        for name, inner in node.get("properties", {}).items():
            if not inner.get("description") and (path.count(".") or name not in ("metadata",)):
                silent.append(f"{path}.{name}")
    assert silent == []


def test_status_has_no_defaults() -> None:
    """A default would show a status that nobody has written: kstatus would take it for one."""
    assert [path for path, node in NODES if ".status" in path and "default" in node] == []


def test_defaults_are_valid_once_filled_in() -> None:
    wrong = []
    for path, node in NODES:
        if "default" in node:
            value = defaulted(node, node["default"])
            wrong += [f"{path}: {e.message}" for e in jsonschema.Draft202012Validator(node).iter_errors(value)]
    assert wrong == []


def test_rules_hold_for_every_default_as_it_stands() -> None:
    """The API server runs them on a default that is not filled in further, and refuses the CRD (found on 1.36.3)."""
    wrong = []
    for path, node in NODES:
        if "default" in node and "properties" in node:
            wrong += broken_rules(node, node["default"], node["default"], path)
    assert wrong == []


def test_every_rule_compiles_and_says_why_in_one_line() -> None:
    wrong = []
    for path, node in NODES:
        for rule in node.get(RULES, ()):
            cel.compile(rule["rule"])
            message = rule["message"]
            if not 10 <= len(message) <= 300 or "\n" in message or len(rule["rule"]) > RULE_BYTES_MAX:
                wrong.append(f"{path}: {message}")
    assert wrong == []


def test_no_transition_rule_stands_below_a_list_without_keys() -> None:
    """The API server could not tell which item was which, and refuses such a CRD."""
    wrong = [p for p, node in NODES if "[]" in p for rule in node.get(RULES, ()) if "oldSelf" in rule["rule"]]
    assert wrong == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_printer_columns_and_scale_paths_name_fields_that_exist(kind: Kind) -> None:
    version = custom_resource_definition(kind)["spec"]["versions"][0]
    root = version["schema"]["openAPIV3Schema"]
    paths = [c["jsonPath"] for c in version["additionalPrinterColumns"]]
    paths += version["subresources"].get("scale", {}).values()
    for path in paths:
        if path == ".metadata.creationTimestamp":
            continue
        node = root
        for part in path.split("[", 1)[0].strip(".").split("."):
            node = node["properties"][part]
        assert ("[?(@.type==" in path) == (node["type"] == "array"), path


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_crd_is_small(kind: Kind) -> None:
    import yaml

    assert len(yaml.safe_dump(custom_resource_definition(kind))) < CRD_BYTES_MAX


def generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate_crds", ROOT / "operator" / "generate_crds.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_chart_holds_what_the_models_say() -> None:
    module = generator()
    assert module.differences(module.rendered()) == []


def test_a_changed_model_is_noticed() -> None:
    module = generator()
    texts = module.rendered()
    name = "lockmaster.dev_locks.yaml"
    assert module.differences({**texts, name: texts[name] + "\n"}) == [name]
    assert module.differences({k: v for k, v in texts.items() if k != name}) == [name]
