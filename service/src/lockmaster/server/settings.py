"""The server's settings: one set of names for flags, environment (LOCKMASTER_*) and code, each with its bounds.

Precedence: what the caller gives (flags), the environment, files (LOCKMASTER_SETTINGS_DIR), the defaults. `load` turns
every mistake into one line that names the setting and its remedy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from lockmaster_raft.config import SECOND, RaftConfig
from lockmaster_raft.role_policy import LogPolicy, RoleMode
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from lockmaster.addresses import is_loopback, join_address, split_address

CLIENT_PORT: Final = 7420
PEER_PORT: Final = 7421
DIRECTORY_VARIABLE: Final = "LOCKMASTER_SETTINGS_DIR"


class SettingsError(Exception):
    """The settings cannot be used; the text is one line that names the setting.

    `setting` is its name, "" where several don't go together; `why` is the rest of the line.
    """

    def __init__(self, setting: str, why: str) -> None:
        super().__init__(f"{setting}: {why}" if setting else why)
        self.setting = setting
        self.why = why


class Settings(BaseSettings):
    """Settings of one server process. Environment: LOCKMASTER_ and the name in capitals."""

    model_config = SettingsConfigDict(env_prefix="LOCKMASTER_", extra="forbid", frozen=True)

    data_dir: Path
    name: Annotated[str, Field(min_length=1, max_length=253)]
    listen_client: str = f"127.0.0.1:{CLIENT_PORT}"
    listen_peer: str = f"127.0.0.1:{PEER_PORT}"
    listen_session: str = ""
    """Where direct session streams are taken; empty = any free port of listen_client's host, "none" = nowhere (clients
    use gRPC on the client port alone). Clients dial its port on the host under which they know the client port."""
    advertise_client: str = ""
    """What clients and members are told to dial; empty = listen_client."""
    advertise_peer: str = ""
    insecure: bool = False
    """Plaintext; refused unless every address is a loopback one."""
    client_tls_cert: Path | None = None
    client_tls_key: Path | None = None
    client_tls_ca: Path | None = None
    """Given: clients must show a certificate of this authority (mTLS)."""
    peer_tls_cert: Path | None = None
    peer_tls_key: Path | None = None
    peer_tls_ca: Path | None = None
    listen_login: str = ""
    """Where clients log in by ServiceAccount token, without a certificate; empty = nowhere. The same port number on
    all members: clients go to another member on the port under which they know the first."""
    login_audience: Annotated[str, Field(min_length=1, max_length=253)] = "lockmaster"
    """The audience that a token must be made for."""
    login_api_server: str = ""
    """https://host:port of the API server that reviews tokens; empty = the one of the pod's own cluster."""
    login_account: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount")
    """Directory with `token` and `ca.crt`: as whom, and by which authority, the API server is asked."""
    admins: Annotated[tuple[str, ...], NoDecode] = ()
    """Who may change members, roles, gates and sessions: names in client certificates, or ServiceAccounts as
    system:serviceaccount:NAMESPACE:NAME. Members may always. Empty = whoever has a client certificate."""
    bootstrap: bool = False
    """Genesis if the data directory is blank: this is the first member of a new cluster."""
    full_min: Annotated[int, Field(ge=1, le=9)] = 2
    """Bootstrap: fewest full voters before client writes are admitted; 1 only for development."""
    role: Literal["full", "witness"] = "full"
    """What a blank member joins as: a full one, or a witness (a voter with the log and without a state)."""
    witness_names: Annotated[tuple[str, ...], NoDecode] = ()
    """Names of the members that are witnesses in the intended shape, the same on all members: a witness that was
    promoted is made one again only if it is named here."""
    roles: Literal["automatic", "operated"] = "automatic"
    """Who changes roles: the leader by itself, or an operator that asks (the leader is the backstop then)."""
    promote_after_s: Annotated[float, Field(ge=1, le=86_400)] = 60.0
    """How long a full member must be silent before a witness is promoted in its stead."""
    restore_after_s: Annotated[float, Field(ge=1, le=86_400)] = 60.0
    """How long all full members must be there and caught up before the promoted one is a witness again."""
    role_cool_down_s: Annotated[float, Field(ge=0, le=604_800)] = 600.0
    """Least time between two automatic role changes."""
    role_change_timeout_s: Annotated[float, Field(ge=1, le=86_400)] = 600.0
    """A role change that is not complete after this long is aborted."""
    witness_log_mib: Annotated[int, Field(ge=1, le=1 << 20)] = 4096
    """Log budget of a witness."""
    witness_log_policy: Literal["promote", "block", "alarm"] = "promote"
    """What happens above it: the witness is promoted, writes are refused, or only an alarm is raised."""
    join: Annotated[tuple[str, ...], NoDecode] = ()
    """Client addresses of members that are asked to add this one if its data directory is blank."""
    learner: bool = False
    profile: Literal["default", "fast"] = "default"
    relay: bool = True
    """Pass unary mutations on to the leader when this member does not lead."""
    reflection: bool = True
    shutdown_grace_s: Annotated[float, Field(gt=0, le=600)] = 20.0
    streams_max: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    watches_max: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    scrub_interval_s: Annotated[float, Field(ge=0, le=31_536_000)] = 86_400.0
    """Seconds between two scrubs, which re-read journal and state and check every checksum; 0 = none."""
    scrub_mib_per_s: Annotated[int, Field(ge=1, le=1024)] = 16
    """How fast a scrub reads, at most."""
    metrics_listen: str = ""
    """host:port of the Prometheus endpoint; empty = none."""
    otlp_endpoint: str = ""
    """host:port of an OTLP gRPC collector; empty = none."""
    otlp_insecure: bool = False
    trace_sample_ratio: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    log_format: Literal["json", "text"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("join", "witness_names", "admins", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        """Comma-separated in the environment."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if not value.isprintable() or len(value.encode()) > 253:
            raise ValueError("1 to 253 bytes without control characters")
        return value

    @field_validator(
        "listen_client",
        "listen_peer",
        "advertise_client",
        "advertise_peer",
        "metrics_listen",
        "otlp_endpoint",
        "listen_login",
    )
    @classmethod
    def _check_address(cls, value: str) -> str:
        if value:
            split_address(value)
        return value

    @field_validator("listen_session")
    @classmethod
    def _check_session_address(cls, value: str) -> str:
        if value not in ("", "none"):
            split_address(value)
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Settings:
        if not self.listen_client or not self.listen_peer:
            raise ValueError("listen_client and listen_peer must not be empty")
        for address in self.join:
            split_address(address)
        if self.bootstrap and self.join:
            raise ValueError("bootstrap and join exclude each other: the first member bootstraps, the others join")
        if self.bootstrap and self.role == "witness":
            raise ValueError("bootstrap needs role full: a cluster begins with a full member")
        own = {self.listen_client, self.advertise_client} - {""}
        if own & set(self.join):
            raise ValueError("join names this member's own client address; give another member's")
        if self.listen_login and self.client_tls_cert is not None and self.client_tls_ca is None:
            raise ValueError("listen_login needs client_tls_ca: members call each other by certificate")
        self._check_tls("client", self.client_tls_cert, self.client_tls_key, self.client_tls_ca, ca_needed=False)
        self._check_tls("peer", self.peer_tls_cert, self.peer_tls_key, self.peer_tls_ca, ca_needed=True)
        return self

    def _check_tls(self, side: str, cert: Path | None, key: Path | None, ca: Path | None, *, ca_needed: bool) -> None:
        given = [cert is not None, key is not None]
        if any(given) and not all(given):
            raise ValueError(f"{side}_tls_cert and {side}_tls_key belong together")
        if ca is not None and cert is None:
            raise ValueError(f"{side}_tls_ca needs {side}_tls_cert and {side}_tls_key")
        if cert is not None and ca is None and ca_needed:
            raise ValueError(f"{side}_tls_cert needs {side}_tls_ca: members check each other's certificates")
        if cert is not None:
            return
        if side == "client" and self.listen_login:
            raise ValueError("listen_login needs TLS (client_tls_cert): tokens don't travel in plaintext")
        if not self.insecure:
            certificate = both_ways(f"{side}_tls_cert")
            plaintext = f"plaintext needs {both_ways('insecure')}, on loopback addresses only"
            raise ValueError(f"{side}_tls_cert is missing: {certificate}; {plaintext}")
        for address in (self.listen_client, self.session_address) if side == "client" else (self.listen_peer,):
            if address and not is_loopback(split_address(address)[0]):
                raise ValueError(f"insecure is refused on {address}: only loopback addresses may speak plaintext")

    @property
    def session_address(self) -> str:
        """host:port of the session port, "" for none."""
        if self.listen_session == "none":
            return ""
        return self.listen_session or join_address(split_address(self.listen_client)[0], 0)

    def raft_config(self) -> RaftConfig:
        """The consensus core's settings of the chosen profile, with this member's word on roles."""
        profile = RaftConfig.fast() if self.profile == "fast" else RaftConfig()
        policy = replace(
            profile.role_policy,
            mode=RoleMode(self.roles),
            log_policy=LogPolicy(self.witness_log_policy),
            promote_after_ns=int(self.promote_after_s * SECOND),
            restore_after_ns=int(self.restore_after_s * SECOND),
            cool_down_ns=int(self.role_cool_down_s * SECOND),
            change_timeout_ns=int(self.role_change_timeout_s * SECOND),
            witness_names=frozenset(self.witness_names),
        )
        return replace(profile, role_policy=policy, witness_log_bytes_max=self.witness_log_mib << 20)


def flag_of(setting: str) -> str:
    """Of `lockmaster serve`."""
    return f"--{setting.replace('_', '-')}"


def both_ways(setting: str) -> str:
    """How a setting is given: its flag or its variable."""
    return f"{flag_of(setting)} or LOCKMASTER_{setting.upper()}"


def load(values: Mapping[str, Any]) -> Settings:
    """Settings from these values, the environment, and files; the first that names a setting decides.

    LOCKMASTER_SETTINGS_DIR is a directory with one file per setting, named as its variable in small letters
    (`lockmaster_role`): what an operator mounts for one pod. Raises SettingsError with one line.
    """
    directory = os.environ.get(DIRECTORY_VARIABLE)
    if directory and not Path(directory).is_dir():
        raise SettingsError("", f"{DIRECTORY_VARIABLE}: {directory} is no directory")
    files: dict[str, Any] = {"_secrets_dir": directory or None}
    given = {name: value for name, value in values.items() if value is not None}
    try:
        return Settings(**files, **given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        why = "is missing" if first["type"] == "missing" else str(first["msg"]).removeprefix("Value error, ")
        raise SettingsError(where, why) from None
