"""What the typed models of the custom resources are made of: parts, CEL rules, the common kinds of text.

A model is the one source of its CRD (`generate_crds.py`). What Kubernetes needs beyond JSON Schema stands at the field
as `extra(...)`; what a person gets wrong is refused by a `Rule` with a message that names field and reason. Every text,
list and map has a stated maximum: the API server prices CEL rules by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

GROUP: Final = "lockmaster.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
RULES: Final = "x-kubernetes-validations"


@dataclass(frozen=True, slots=True)
class Rule:
    """One CEL rule of the API server. `self` is the value it stands at; `oldSelf` makes it a transition rule."""

    rule: str
    message: str
    """Names the field and the reason, and says what to do instead."""
    field: str = ""
    """Path below the value, such as `.full`, that the API server names; "" = the value itself."""
    optional_old: bool = False
    """The rule is also run where there is no old value; `oldSelf` is a CEL optional then."""

    def schema(self) -> dict[str, Any]:
        """As it stands in the CRD."""
        found: dict[str, Any] = {"rule": self.rule, "message": self.message}
        if self.field:
            found["fieldPath"] = self.field
        if self.optional_old:
            found["optionalOldSelf"] = True
        return found


def rules(*given: Rule, **more: Any) -> ConfigDict:
    """The model_config of a part with these rules on the object itself."""
    return ConfigDict(json_schema_extra={RULES: [rule.schema() for rule in given], **more})


def extra(*given: Rule, **more: Any) -> Any:
    """`json_schema_extra` of a field: rules on its value, and Kubernetes' own keywords (`_` stands for `-`)."""
    found = {key.replace("_", "-"): value for key, value in more.items()}
    if given:
        found[RULES] = [rule.schema() for rule in given]
    return found


class Part(BaseModel):
    """An immutable piece of a spec or status: camelCase outside, unknown fields ignored (a newer operator's words)."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        use_attribute_docstrings=True,
        extra="ignore",
    )


QUANTITY: Final = r"^([0-9]+(\.[0-9]{1,3})?)(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?$"
DURATION: Final = r"^([0-9]{1,9}(ms|s|m|h))+$"
NAME: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"

Quantity = Annotated[str, Field(max_length=24, pattern=QUANTITY)]
"""A Kubernetes quantity, such as 10Gi or 250m; never negative."""
DurationText = Annotated[str, Field(max_length=24, pattern=DURATION)]
"""A duration as Go writes it: 90s, 1h30m."""
ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=NAME)]
"""The name of an object in the same namespace."""
Timestamp = Annotated[str, Field(max_length=32, json_schema_extra={"format": "date-time"})]
"""RFC 3339, UTC, whole seconds."""
ShortText = Annotated[str, Field(max_length=256)]
LongText = Annotated[str, Field(max_length=1024)]
LabelMap = Annotated[dict[str, Annotated[str, Field(max_length=253)]], Field(max_length=32)]
"""Labels or annotations, at most 32."""
Foreign = Annotated[
    dict[str, Any], WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True}), Field()
]
"""An object of Kubernetes' own API, passed on as it is."""


class LocalReference(Part):
    """An object in the same namespace."""

    name: ObjectName
    """Its name."""


_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(text: str) -> float:
    """Seconds of a duration such as 1h30m; 0.0 for text that is none (the schema refuses it before)."""
    total, number, unit = 0.0, "", ""
    for character in [*text, "0"]:
        if character.isdigit() and unit:
            total += int(number or "0") * _UNIT_SECONDS.get(unit, 0.0)
            number, unit = "", ""
        if character.isdigit():
            number += character
        else:
            unit += character
    return total


_FACTOR: Final = {
    "": 1.0, "m": 0.001,
    "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip


def amount_of(quantity: str) -> float | None:
    """What a quantity amounts to (bytes, cores); None for text that is none."""
    number = quantity.rstrip("mkKiMGTPE")
    factor = _FACTOR.get(quantity[len(number) :])
    if factor is None:
        return None
    try:
        return float(number) * factor
    except ValueError:
        return None
