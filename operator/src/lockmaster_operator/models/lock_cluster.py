"""LockCluster: what a person asks for (operator.md §1). Its status is in lock_cluster_status.py."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field, model_validator

from lockmaster_operator.models.lock import LOCKS_MAX
from lockmaster_operator.models.part import (
    DurationText,
    Foreign,
    LabelMap,
    LongText,
    ObjectName,
    Part,
    Quantity,
    Rule,
    ShortText,
    extra,
    rules,
)

VOTERS_MAX: Final = 7
"""Most members of a cluster, witnesses included."""
WITNESSES_MAX: Final = 2
ROLLOUT_WORDS: Final = "upgrade through every minor version in between, one at a time"


class Members(Part):
    """How many members of each kind; ordinals 0 … full - 1 are full, the ones after them witnesses."""

    model_config = rules(
        Rule(
            "self.full > self.witness",
            "full must be more than witness: full members have to be a majority of the voters; raise full or lower "
            "witness",
            ".full",
        ),
        Rule(
            "(self.full + self.witness) % 2 == 1",
            "full + witness must be odd: an even number tolerates no more failures than one less; use 2+1, 3+0, 3+2, "
            "5+0, 4+1",
            ".full",
        ),
        Rule(
            f"self.full + self.witness <= {VOTERS_MAX}",
            f"full + witness must be at most {VOTERS_MAX}: more members make every write slower and nothing safer",
            ".full",
        ),
    )

    full: Annotated[int, Field(ge=2, le=VOTERS_MAX)] = 2
    """Members that hold the whole state, lead and serve. The scale subresource changes this number."""
    witness: Annotated[int, Field(ge=0, le=WITNESSES_MAX)] = 1
    """Voters that hold the log and no state; needs the witness level, see the condition WitnessGate."""

    @property
    def total(self) -> int:
        """All members."""
        return self.full + self.witness


class WitnessMode(StrEnum):
    """Whether the operator opens the gate and changes roles by itself."""

    AUTO = "Auto"
    DISABLED = "Disabled"


_AT_LEAST_A_SECOND: Final = Rule("duration(self) >= duration('1s')", "must be at least 1s")
_AT_MOST_A_DAY: Final = Rule("duration(self) <= duration('24h')", "must be at most 24h")


class Witness(Part):
    """When a witness is promoted, and how often roles may change."""

    mode: WitnessMode = WitnessMode.AUTO
    """Auto: the operator opens the witness gate when every member is able to, promotes a witness when a full member is
    gone, and restores the shape. Disabled: it does none of the three."""
    promote_after: Annotated[DurationText, Field(json_schema_extra=extra(_AT_LEAST_A_SECOND, _AT_MOST_A_DAY))] = "60s"
    """How long a full member must be gone before a witness is promoted, and how long all must be back and caught up
    before the shape is restored; another spec.members does not wait for it. The leader acts by itself after three times
    this."""
    cool_down: Annotated[DurationText, Field(json_schema_extra=extra(_AT_MOST_A_DAY))] = "10m"
    """Least time between two automatic role changes."""


_NO_SHRINK: Final = Rule(
    "quantity(self).compareTo(quantity(oldSelf)) >= 0",
    "size can't shrink: volumes only grow; back up, and restore into a new cluster with smaller volumes",
)
_SIZE_MIN: Final = Rule(
    "quantity(self).compareTo(quantity('1Gi')) >= 0",
    "size must be at least 1Gi: below 512Mi of free space the leader admits no writes",
)


class AutoGrow(Part):
    """Growing of the volumes by the operator."""

    max: Annotated[Quantity, Field(json_schema_extra=extra(_SIZE_MIN))]
    """No volume is made larger than this."""


class Storage(Part):
    """The volume of each member, full or witness: a witness needs the room when it is promoted."""

    model_config = rules(
        Rule(
            "has(self.class) == has(oldSelf.class) && (!has(self.class) || self.class == oldSelf.class)",
            "class can't change: volumes are not moved; restore a backup into a new cluster of the other class",
            ".class",
        ),
        Rule(
            "!has(self.autoGrow) || quantity(self.autoGrow.max).compareTo(quantity(self.size)) >= 0",
            "autoGrow.max must be at least size",
            ".autoGrow",
        ),
    )

    size: Annotated[Quantity, Field(json_schema_extra=extra(_SIZE_MIN, _NO_SHRINK))] = "10Gi"
    """Size of each volume. It may grow where the storage class allows it, and never shrinks."""
    class_: Annotated[ObjectName | None, Field(alias="class")] = None
    """Storage class; absent: the default one. Fixed once the cluster is made."""
    auto_grow: AutoGrow | None = None
    """Let the operator grow the volumes by half, 1Gi at least, when one has less than 20 % or 768Mi free; absent: it
    only warns. The storage class must allow expansion."""


class Resources(Part):
    """CPU and memory of a container with the members' image."""

    requests: Annotated[dict[str, Quantity], Field(max_length=8)] = Field(default_factory=dict)
    """What the scheduler sets aside: cpu, memory, ephemeral-storage."""
    limits: Annotated[dict[str, Quantity], Field(max_length=8)] = Field(default_factory=dict)
    """What the container may use at most. A CPU limit makes elections late: better none."""


class TlsMode(StrEnum):
    """Where certificates come from."""

    OPERATOR = "operator"
    CERT_MANAGER = "certManager"
    SECRET = "secret"


class IssuerReference(Part):
    """An issuer of cert-manager."""

    name: ObjectName
    """Its name."""
    kind: Annotated[str, Field(pattern="^(Issuer|ClusterIssuer)$", max_length=16)] = "Issuer"
    """Issuer or ClusterIssuer."""


class TlsSecrets(Part):
    """Secrets of kind kubernetes.io/tls with ca.crt, kept by whoever made them."""

    client: ObjectName
    """Certificate of the client port, with ca.crt: the authority that clients' certificates must be of."""
    peer: ObjectName
    """Certificate that members show each other, with the members' own authority in ca.crt. Use a separate one."""
    operator: ObjectName
    """Client certificate that the operator itself uses."""


class Tls(Part):
    """TLS is always on; the mode says who issues."""

    model_config = rules(
        Rule("self.mode == oldSelf.mode", "mode can't change: members of two authorities would not trust each other"),
        Rule(
            "(self.mode == 'secret') == has(self.secrets)",
            "secrets must be given with mode secret, and only with it: client, peer and operator name three Secrets",
            ".secrets",
        ),
        Rule(
            "(self.mode == 'certManager') == has(self.issuer)",
            "issuer must be given with mode certManager, and only with it",
            ".issuer",
        ),
        Rule(
            "self.mode != 'secret' || self.extraNames.size() == 0",
            "extraNames must be in the certificate of your own with mode secret; the operator issues none there",
            ".extraNames",
        ),
    )

    mode: TlsMode = TlsMode.OPERATOR
    """operator: an authority of the operator's own, rotated without a restart. certManager: by an issuer of
    cert-manager. secret: from Secrets that you keep. Fixed once the cluster is made."""
    issuer: IssuerReference | None = None
    """The issuer, with mode certManager."""
    secrets: TlsSecrets | None = None
    """The Secrets, with mode secret."""
    extra_names: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=253)], ...],
        Field(max_length=16, json_schema_extra=extra(x_kubernetes_list_type="set")),
    ] = ()
    """More DNS names or addresses in the client port's certificate: those that clients outside use."""


class ServiceAccountLogin(Part):
    """Clients log in with the token of their ServiceAccount, checked by TokenReview."""

    enabled: bool = True
    """Whether it is allowed beside client certificates."""
    audience: Annotated[str, Field(min_length=1, max_length=253)] = "lockmaster"
    """The audience that a token must be made for."""


_ACCOUNT_NAME: Final = Rule(
    "!self.startsWith('system:serviceaccount:') || "
    "self.matches('^system:serviceaccount:[a-z0-9.-]{1,63}:[a-z0-9.-]{1,253}$')",
    "a ServiceAccount among admins is written system:serviceaccount:NAMESPACE:NAME",
)


class Auth(Part):
    """How clients prove who they are. Client certificates of the authority in `tls` are always good."""

    service_accounts: ServiceAccountLogin = ServiceAccountLogin()
    """Login by ServiceAccount token."""
    admins: Annotated[
        tuple[
            Annotated[
                str,
                Field(min_length=1, max_length=320, pattern=r"^[^,\s]+$", json_schema_extra=extra(_ACCOUNT_NAME)),
            ],
            ...,
        ],
        Field(max_length=32, json_schema_extra=extra(x_kubernetes_list_type="set")),
    ] = ()
    """Who may change members, roles, gates and others' sessions besides operator and members: names in client
    certificates, or system:serviceaccount:NAMESPACE:NAME. Empty: whoever has a client certificate. With tls.mode
    secret, name the operator's own certificate here, too."""


class Profile(StrEnum):
    """Timeouts of the consensus."""

    DEFAULT = "default"
    FAST = "fast"


class WitnessLogPolicy(StrEnum):
    """What happens when a witness's log is above its budget."""

    PROMOTE = "promote"
    BLOCK = "block"
    ALARM = "alarm"


class Retention(Part):
    """What is kept on the volumes."""

    witness_log: Annotated[
        Quantity,
        Field(json_schema_extra=extra(Rule("quantity(self).compareTo(quantity('1Mi')) >= 0", "must be at least 1Mi"))),
    ] = "4Gi"
    """Budget of a witness's log while a full member is away."""
    witness_log_policy: WitnessLogPolicy = WitnessLogPolicy.PROMOTE
    """What happens above it: the witness is promoted, writes are refused, or only an alarm is raised."""


class Quotas(Part):
    """Limits of one member."""

    streams: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Client streams at a time."""
    watches: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    """Watches at a time."""


_ADDRESS: Final = (
    r"^([A-Za-z0-9]([-A-Za-z0-9._]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])"
    r":([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$"
)
"""host:port or [v6]:port, as members read it: one that they can't read keeps them from starting."""


class Telemetry(Part):
    """Where the members send traces and metrics, by OTLP over gRPC."""

    otlp_endpoint: Annotated[str, Field(max_length=261, pattern=_ADDRESS)]
    """host:port of an OpenTelemetry collector."""
    otlp_insecure: bool = False
    """Speak plaintext to it."""
    trace_sample_ratio: Annotated[str, Field(max_length=10, pattern=r"^(0(\.[0-9]{1,8})?|1(\.0{1,8})?)$")] = "0.01"
    """Share of the requests that are traced where the client traces none, 0 to 1; with 0 no trace is sent at all."""


class Config(Part):
    """Settings of the members."""

    profile: Profile = Profile.DEFAULT
    """default: heartbeat 100 ms, election 1 s. fast: 50 and 300 ms, for members in one zone."""
    retention: Retention = Retention()
    """What is kept on the volumes."""
    quotas: Quotas = Quotas()
    """Limits of one member."""
    telemetry: Telemetry | None = None
    """Traces and metrics sent to a collector; absent: none. Each change restarts the members, one at a time."""


class Spread(StrEnum):
    """How strictly members are kept apart."""

    REQUIRED = "Required"
    PREFERRED = "Preferred"
    NONE = "None"


class Scheduling(Part):
    """Where pods may run."""

    spread: Spread = Spread.PREFERRED
    """Over zones and nodes. Required: a pod that would share a zone or a node stays Pending; Preferred: only if there
    is no other place; None: not considered."""
    affinity: Foreign | None = None
    """Kubernetes' own affinity."""
    tolerations: Annotated[
        tuple[Foreign, ...], Field(max_length=32, json_schema_extra=extra(x_kubernetes_list_type="atomic"))
    ] = ()
    """Kubernetes' own tolerations."""
    node_selector: LabelMap = Field(default_factory=dict)
    """Labels that a node must have."""


class EnvironmentVariable(Part):
    """One variable of a member's container."""

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=128,
            pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
            json_schema_extra=extra(
                Rule("!self.startsWith('LOCKMASTER_')", "LOCKMASTER_ variables are the operator's: use spec.config")
            ),
        ),
    ]
    """Its name, once."""
    value: LongText = ""
    """Its value."""


class PodTemplate(Part):
    """What is laid over the pods that the operator makes. It can't undo the restricted pod security."""

    labels: LabelMap = Field(default_factory=dict)
    """More labels; the operator's own can't be changed."""
    annotations: LabelMap = Field(default_factory=dict)
    """More annotations."""
    env: Annotated[
        tuple[EnvironmentVariable, ...],
        Field(
            max_length=64,
            json_schema_extra=extra(x_kubernetes_list_type="map", x_kubernetes_list_map_keys=["name"]),
        ),
    ] = ()
    """More variables of the member's container, each name once."""
    priority_class_name: Annotated[str, Field(max_length=253)] = ""
    """Priority class of the pods."""
    image_pull_policy: Annotated[str, Field(pattern="^(Always|IfNotPresent|Never)$", max_length=12)] = "IfNotPresent"
    """When the image is pulled."""
    image_pull_secrets: Annotated[
        tuple[ObjectName, ...], Field(max_length=8, json_schema_extra=extra(x_kubernetes_list_type="set"))
    ] = ()
    """Names of Secrets to pull it with."""


class Weekday(StrEnum):
    """A day of the week."""

    MON = "Mon"
    TUE = "Tue"
    WED = "Wed"
    THU = "Thu"
    FRI = "Fri"
    SAT = "Sat"
    SUN = "Sun"


class MaintenanceWindow(Part):
    """When the operator may begin to restart members or to change their number, in UTC. Failures are mended always."""

    days: Annotated[
        tuple[Weekday, ...], Field(min_length=1, max_length=7, json_schema_extra=extra(x_kubernetes_list_type="set"))
    ] = tuple(Weekday)
    """Days on which a window begins."""
    start: Annotated[str, Field(max_length=5, pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    """When it begins, HH:MM in UTC."""
    duration: Annotated[
        DurationText,
        Field(
            json_schema_extra=extra(Rule("duration(self) >= duration('10m')", "must be at least 10m"), _AT_MOST_A_DAY)
        ),
    ] = "2h"
    """How long it is open."""


class DeletionPolicy(StrEnum):
    """What happens to the volumes when the LockCluster is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


_VERSION_PATH: Final = Rule(
    "int(self.split('.')[0]) != int(oldSelf.split('.')[0]) || "
    "(int(self.split('.')[1]) - int(oldSelf.split('.')[1]) <= 1 && "
    "int(oldSelf.split('.')[1]) - int(self.split('.')[1]) <= 1)",
    f"version must not skip a minor version: {ROLLOUT_WORDS}",
)
_VERSION_MAJOR: Final = Rule(
    "int(self.split('.')[0]) - int(oldSelf.split('.')[0]) <= 1 && "
    "int(oldSelf.split('.')[0]) - int(self.split('.')[0]) <= 1",
    "version must not skip a major version",
)


class LockProjection(Part):
    """Held locks as Lock objects, for `kubectl get locks`."""

    enabled: bool = False
    """Switched off, the Lock objects of this cluster are removed."""
    max: Annotated[int, Field(ge=1, le=LOCKS_MAX)] = 100
    """At most so many: those held longest."""
    interval: Annotated[
        DurationText,
        Field(json_schema_extra=extra(Rule("duration(self) >= duration('5s')", "interval must be 5s or more"))),
    ] = "30s"
    """How often the cluster is asked. Renewals change no object."""


class LockClusterSpec(Part):
    """A cluster of lock servers."""

    version: Annotated[
        str,
        Field(
            max_length=64,
            pattern=r"^(0|[1-9][0-9]{0,4})\.(0|[1-9][0-9]{0,4})\.(0|[1-9][0-9]{0,4})(\.?(dev|a|b|rc|-)[0-9A-Za-z.]*)?$",
            json_schema_extra=extra(_VERSION_MAJOR, _VERSION_PATH),
        ),
    ]
    """Version of the members, such as 0.2.0. A change is rolled out one member at a time, the leader last."""
    image: ShortText = ""
    """Image of the members, with a tag or a digest; empty: the operator's own repository at `version`."""
    members: Members = Members()
    """How many members, and of which kind."""
    witness: Witness = Witness()
    """Promotion of witnesses."""
    storage: Storage = Storage()
    """The volumes."""
    resources: Resources = Resources()
    """CPU and memory of each member, and of each Job for its data."""
    tls: Tls = Tls()
    """Certificates."""
    auth: Auth = Auth()
    """How clients prove who they are."""
    config: Config = Config()
    """Settings of the members."""
    scheduling: Scheduling = Scheduling()
    """Where pods may run."""
    pod_template: PodTemplate = PodTemplate()
    """What is laid over the pods."""
    lock_projection: LockProjection = LockProjection()
    """Whether held locks are shown as objects."""
    maintenance_window: MaintenanceWindow | None = None
    """When members may be restarted on purpose; absent: at any time."""
    paused: bool = False
    """The operator changes nothing of members, pods and objects. The leader still promotes a witness by itself, and
    sessions of pods that are over still end. ConfigSets have a spec.paused of their own."""
    hibernate: bool = False
    """No pods; volumes, identities and data stay, and come back with false."""
    deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN
    """Retain: the volumes outlive the LockCluster; one of the same name takes them over. Delete: they go with it."""

    @model_validator(mode="before")
    @classmethod
    def _fill_absent_parts(cls, value: Any) -> Any:
        """An explicit null is an absent field, as the API server takes it."""
        if isinstance(value, dict):
            return {key: item for key, item in value.items() if item is not None}
        return value


ROOT_RULES: Final = (
    Rule(
        "self.metadata.name.size() <= 48",
        "metadata.name must have at most 48 characters: the names of pods and Services are made from it",
    ),
    Rule(
        "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "metadata.name must begin with a letter and have letters, digits and - only: it becomes part of DNS names",
    ),
)
"""Rules of the whole object."""
