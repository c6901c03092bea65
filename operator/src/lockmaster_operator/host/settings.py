"""The operator's own settings, from LOCKMASTER_OPERATOR_*, each with its bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from lockmaster.addresses import ADDRESS_BYTES_MAX, split_address
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX: Final = "LOCKMASTER_OPERATOR_"


class SettingsError(Exception):
    """A setting cannot be used; the text is one line that names its variable."""


class HostSettings(BaseSettings):
    """Settings of one operator process."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", use_attribute_docstrings=True)

    namespace: Annotated[str, Field(min_length=1, max_length=63)] = "default"
    """Namespace of its own Lease."""
    identity: Annotated[str, Field(max_length=253)] = ""
    """Who holds the Lease: the pod's name; empty = host name and a random number."""
    lease: Annotated[str, Field(min_length=1, max_length=253)] = "lockmaster-operator"
    """Name of the Lease; one operator of a name is active at a time."""
    namespaces: Annotated[tuple[str, ...], NoDecode] = ()
    """Namespaces that are watched, comma-separated; empty = all."""
    workers: Annotated[int, Field(ge=1, le=64)] = 8
    """Clusters that are looked after at the same time."""
    listen: Annotated[str, Field(pattern=r"^.*:[0-9]{1,5}$", max_length=260)] = "0.0.0.0:8080"
    """host:port of /livez, /readyz and /metrics."""
    image_repository: Annotated[str, Field(min_length=1, max_length=256)] = "lockmaster"
    """Image of members whose spec names none: this, a colon, spec.version."""
    cluster_domain: Annotated[str, Field(min_length=1, max_length=253)] = "cluster.local"
    """DNS domain of the Kubernetes cluster."""
    login_binding: Annotated[str, Field(max_length=253)] = ""
    """ClusterRoleBinding whose subjects are the members' accounts, so that they may review tokens; empty = no login by
    ServiceAccount token."""
    reads_cluster: bool = True
    """Whether nodes and volumes may be read, to tell a member that is lost from one that is away."""
    otlp_endpoint: Annotated[str, Field(max_length=ADDRESS_BYTES_MAX)] = ""
    """host:port of an OTLP gRPC collector that gets a trace of each pass; empty = none."""
    otlp_insecure: bool = False
    """Speak plaintext to the collector."""
    trace_sample_ratio: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    """Share of the passes that are traced; members trace what a traced pass asks of them."""
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = "info"
    """What is logged."""

    @field_validator("namespaces", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("otlp_endpoint")
    @classmethod
    def _check_address(cls, value: str) -> str:
        if value:
            split_address(value)
        return value


def load(values: Mapping[str, Any] | None = None) -> HostSettings:
    """Settings from these values and the environment. Raises SettingsError."""
    try:
        return HostSettings(**(values or {}))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = "_".join(str(part) for part in first["loc"][:1])
        raise SettingsError(f"{PREFIX}{name.upper()}: {first['msg']}") from None


def described() -> str:
    """One line per variable: its name, default and meaning, for --help."""
    lines = []
    for name, field in HostSettings.model_fields.items():
        default = field.default if field.default not in ("", ()) else "none"
        lines.append(f"  {PREFIX}{name.upper()}  [default: {default}]\n      {field.description}")
    return "\n".join(lines)
