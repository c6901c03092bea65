"""The members' pods (operator.md §3): restricted pod security, probes that never restart a member for want of a quorum,
a pre-stop hand-over that never changes membership, spread over zones and nodes."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from lockmaster_operator.desired.certificates import Purpose, secret_name
from lockmaster_operator.desired.names import (
    CLIENT_PORT,
    HEALTH_PORT,
    LOGIN_PORT,
    PEER_PORT,
    ROLE_LABEL,
    SESSION_PORT,
    TEMPLATE_LABEL,
    Cluster,
    Settings,
    account_of,
    host_of,
    image_of,
    labels,
    logs_in,
    selector_labels,
)
from lockmaster_operator.models.lock_cluster import Spread, WitnessMode
from lockmaster_operator.models.part import amount_of, seconds_of

USER: Final = 10_001
"""uid, gid and fsGroup of the members: no root."""
GRACE_S: Final = 60
"""Until SIGKILL: the hand-over (at most 10 s), then draining and the flush (at most 30 s), and room."""
SHUTDOWN_GRACE_S: Final = 30
STARTUP_S: Final = 600
"""How long a start may take: replay of the log, or opening a fetched state."""
BACKSTOP_OFF_S: Final = 86_400
"""promote_after_s with witness.mode Disabled: the most that a member takes."""
DATA: Final = "/var/lib/lockmaster"
MEMBER_SETTINGS: Final = "/etc/lockmaster/member"
"""Files named like settings, of this pod alone: what a blank volume is made for (`role`)."""
TLS: Final = "/etc/lockmaster/tls"


def pod_template(cluster: Cluster, settings: Settings) -> dict[str, Any]:
    """The pod template of the StatefulSet, with its own hash as a label: a pod without it is to be restarted."""
    template = {
        "metadata": {
            "labels": {**cluster.spec.pod_template.labels, **labels(cluster), ROLE_LABEL: "full"},
            "annotations": {
                **cluster.spec.pod_template.annotations,
                "kubectl.kubernetes.io/default-container": "lockmaster",
                "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes": "tmp",
            },
        },
        "spec": _pod_spec(cluster, settings),
    }
    template["metadata"]["labels"][TEMPLATE_LABEL] = hash_of(template)
    return template


def hash_of(value: Any) -> str:
    """Ten hex digits of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:10]


def _pod_spec(cluster: Cluster, settings: Settings) -> dict[str, Any]:
    template, scheduling = cluster.spec.pod_template, cluster.spec.scheduling
    found: dict[str, Any] = {
        "serviceAccountName": account_of(cluster.name),
        "automountServiceAccountToken": logs_in(cluster, settings),  # for TokenReview, and for nothing else
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(cluster, settings)],
        "volumes": _volumes(cluster),
    }
    if scheduling.spread is not Spread.NONE:
        found["topologySpreadConstraints"] = _spread(cluster)
    if scheduling.affinity:
        found["affinity"] = scheduling.affinity
    if scheduling.tolerations:
        found["tolerations"] = [dict(toleration) for toleration in scheduling.tolerations]
    if scheduling.node_selector:
        found["nodeSelector"] = dict(scheduling.node_selector)
    if template.priority_class_name:
        found["priorityClassName"] = template.priority_class_name
    if template.image_pull_secrets:
        found["imagePullSecrets"] = [{"name": name} for name in template.image_pull_secrets]
    return found


def _spread(cluster: Cluster) -> list[dict[str, Any]]:
    when = "DoNotSchedule" if cluster.spec.scheduling.spread is Spread.REQUIRED else "ScheduleAnyway"
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": when,
            "labelSelector": {"matchLabels": selector_labels(cluster)},
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]


def _volumes(cluster: Cluster) -> list[dict[str, Any]]:
    secrets = [
        {"name": part, "secret": {"secretName": secret_name(cluster, purpose), "defaultMode": 0o440}}
        for part, purpose in (("client-tls", Purpose.CLIENT), ("peer-tls", Purpose.PEER))
    ]
    roles = {
        "name": f"{cluster.name}-members",
        "items": [{"key": f"role-{n}", "path": f"{cluster.name}-{n}/lockmaster_role"} for n in cluster.members_max],
    }
    return [
        *secrets,
        {"name": "members", "configMap": roles},
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
    ]


def resources_of(cluster: Cluster) -> dict[str, Any]:
    """Of a container with the members' image."""
    resources = cluster.spec.resources
    both = (("requests", resources.requests), ("limits", resources.limits))
    return {name: dict(amounts) for name, amounts in both if amounts}


def _container(cluster: Cluster, settings: Settings) -> dict[str, Any]:
    return {
        "name": "lockmaster",
        "image": image_of(cluster, settings),
        "imagePullPolicy": cluster.spec.pod_template.image_pull_policy,
        "args": ["serve"],
        "env": _environment(cluster, settings),
        "ports": [
            {"name": "client", "containerPort": CLIENT_PORT, "protocol": "TCP"},
            {"name": "session", "containerPort": SESSION_PORT, "protocol": "TCP"},
            {"name": "peer", "containerPort": PEER_PORT, "protocol": "TCP"},
            {"name": "health", "containerPort": HEALTH_PORT, "protocol": "TCP"},
            *(
                [{"name": "login", "containerPort": LOGIN_PORT, "protocol": "TCP"}]
                if logs_in(cluster, settings)
                else []
            ),
        ],
        "resources": resources_of(cluster),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "startupProbe": _probe("/livez", period=2, failures=STARTUP_S // 2),
        "livenessProbe": _probe("/livez", period=10, failures=6),
        "readinessProbe": _probe("/readyz", period=2, failures=2),
        "lifecycle": {"preStop": {"exec": {"command": ["lockmaster", "handover"]}}},
        "volumeMounts": [
            {"name": "data", "mountPath": DATA},
            {"name": "client-tls", "mountPath": f"{TLS}/client", "readOnly": True},
            {"name": "peer-tls", "mountPath": f"{TLS}/peer", "readOnly": True},
            {"name": "members", "mountPath": MEMBER_SETTINGS, "subPathExpr": "$(POD_NAME)", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    """/livez: the process's loop turns, quorum or not. /readyz: it does what its role asks (as health name
    lockmaster.member)."""
    return {
        "httpGet": {"path": path, "port": "health", "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 2 if path == "/readyz" else 5,
        "failureThreshold": failures,
    }


def _environment(cluster: Cluster, settings: Settings) -> list[dict[str, Any]]:
    host = host_of(cluster, settings, "$(POD_NAME)")
    values = {
        "LOCKMASTER_NAME": "$(POD_NAME)",
        "LOCKMASTER_DATA_DIR": f"{DATA}/data",
        "LOCKMASTER_LISTEN_CLIENT": f"0.0.0.0:{CLIENT_PORT}",
        "LOCKMASTER_LISTEN_SESSION": f"0.0.0.0:{SESSION_PORT}",
        "LOCKMASTER_LISTEN_PEER": f"0.0.0.0:{PEER_PORT}",
        "LOCKMASTER_ADVERTISE_CLIENT": f"{host}:{CLIENT_PORT}",
        "LOCKMASTER_ADVERTISE_PEER": f"{host}:{PEER_PORT}",
        "LOCKMASTER_METRICS_LISTEN": f"0.0.0.0:{HEALTH_PORT}",
        "LOCKMASTER_SETTINGS_DIR": MEMBER_SETTINGS,
        "LOCKMASTER_LOG_FORMAT": "json",
        "LOCKMASTER_SHUTDOWN_GRACE_S": str(SHUTDOWN_GRACE_S),
        **_member_settings(cluster),
        **_auth_settings(cluster, settings),
        **_telemetry_settings(cluster),
    }
    for part in ("client", "peer"):
        for setting, file in (("CERT", "tls.crt"), ("KEY", "tls.key"), ("CA", "ca.crt")):
            values[f"LOCKMASTER_{part.upper()}_TLS_{setting}"] = f"{TLS}/{part}/{file}"
    own = {
        "name": "POD_NAME",
        "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}},
    }
    given = [{"name": item.name, "value": item.value} for item in cluster.spec.pod_template.env]
    return [own, *({"name": name, "value": value} for name, value in values.items()), *given]


def _auth_settings(cluster: Cluster, settings: Settings) -> dict[str, str]:
    auth, found = cluster.spec.auth, {}
    if logs_in(cluster, settings):
        found["LOCKMASTER_LISTEN_LOGIN"] = f"0.0.0.0:{LOGIN_PORT}"
        found["LOCKMASTER_LOGIN_AUDIENCE"] = auth.service_accounts.audience
    if auth.admins:
        # Who issues the operator's certificate in the other modes names it so; with mode secret a person does.
        own = f"{cluster.name}-{Purpose.OPERATOR.value}"
        found["LOCKMASTER_ADMINS"] = ",".join(dict.fromkeys((own, *auth.admins)))
    return found


def _telemetry_settings(cluster: Cluster) -> dict[str, str]:
    telemetry = cluster.spec.config.telemetry
    if telemetry is None:
        return {}
    return {
        "LOCKMASTER_OTLP_ENDPOINT": telemetry.otlp_endpoint,
        "LOCKMASTER_OTLP_INSECURE": str(telemetry.otlp_insecure).lower(),
        "LOCKMASTER_TRACE_SAMPLE_RATIO": telemetry.trace_sample_ratio,
    }


def _member_settings(cluster: Cluster) -> dict[str, str]:
    witness, config = cluster.spec.witness, cluster.spec.config
    promote_after = seconds_of(witness.promote_after)
    if witness.mode is WitnessMode.DISABLED:
        promote_after = BACKSTOP_OFF_S
    return {
        "LOCKMASTER_ROLES": "operated",
        "LOCKMASTER_PROMOTE_AFTER_S": f"{promote_after:g}",
        "LOCKMASTER_RESTORE_AFTER_S": f"{promote_after:g}",
        "LOCKMASTER_ROLE_COOL_DOWN_S": f"{seconds_of(witness.cool_down):g}",
        "LOCKMASTER_PROFILE": config.profile.value,
        "LOCKMASTER_WITNESS_LOG_MIB": str(max(1, int(amount_of(config.retention.witness_log) or 0) >> 20)),
        "LOCKMASTER_WITNESS_LOG_POLICY": config.retention.witness_log_policy.value,
        "LOCKMASTER_STREAMS_MAX": str(config.quotas.streams),
        "LOCKMASTER_WATCHES_MAX": str(config.quotas.watches),
    }
