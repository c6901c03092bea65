"""The Jobs that backups, restores and recoveries run as: the members' image, `lockmaster job …`, restricted security.

A Job's name is made of its owner's uid and of what it is for, so making it twice makes it once. Its pod's termination
message is the command's report, or the last lines that it said.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from lockmaster_operator.desired.certificates import Purpose, secret_name
from lockmaster_operator.desired.names import (
    CLIENT_PORT,
    MANAGER,
    PEER_PORT,
    Cluster,
    Settings,
    claim_name,
    host_of,
    image_of,
    labels,
    pod_name,
)
from lockmaster_operator.desired.pods import DATA, USER, resources_of
from lockmaster_operator.models.backups import ClaimStore, LockBackupSpec
from lockmaster_operator.models.part import API_VERSION, seconds_of

ARCHIVES: Final = "/archives"
REPORT: Final = "/dev/termination-log"
CREDENTIALS: Final = "/etc/lockmaster/tls/operator"
TRIES: Final = 3
"""Pods that a Job may use up before it has failed."""
LOOK_S_MAX: Final = 600
"""Until a look at a volume that does not end is given up: its node is away, or it can't be mounted."""
FOUNDING_S_MAX: Final = 86_400
"""Until a restore or a recovery that does not end is given up."""
OWNER_LABEL: Final = "lockmaster.dev/job-of"
"""uid of the LockBackup, LockRestore or QuorumRecovery that a Job is of."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Of whom a Job is, and with whom it goes."""

    kind: str
    namespace: str
    name: str
    uid: str


def job_name(owner: Owner, what: str) -> str:
    """At most 63 characters, the same for the same owner and purpose."""
    digest = hashlib.sha256(f"{owner.uid} {what}".encode()).hexdigest()[:10]
    return f"{owner.name[:48].rstrip('-')}-{digest}"


def backup_job(owner: Owner, cluster: Cluster, settings: Settings, spec: LockBackupSpec, stamp: str) -> dict[str, Any]:
    """Makes the archive of `stamp`, verifies it, and removes what retention lets go."""
    store = spec.store.pvc or ClaimStore(claim_name="")
    deadline = int(seconds_of(spec.deadline))
    endpoint = f"{cluster.name}.{cluster.namespace}.svc.{settings.cluster_domain}:{CLIENT_PORT}"
    keep = ["--count", str(spec.retention.count)]
    if spec.retention.age is not None:
        keep += ["--age-s", f"{seconds_of(spec.retention.age):g}"]
    args = ["backup", "--directory", f"{ARCHIVES}/{store.path}", "--name", owner.name, "--stamp", stamp, *keep]
    args += ["--verify" if spec.verify else "--no-verify", "--timeout", str(deadline), "--endpoints", endpoint]
    args += [word for flag in ("ca", "cert", "key") for word in (f"--{flag}", f"{CREDENTIALS}/{_FILES[flag]}")]
    volumes: list[Mount] = [
        ("archives", {"persistentVolumeClaim": {"claimName": store.claim_name}}, ARCHIVES, False),
        (
            "credentials",
            {"secret": {"secretName": secret_name(cluster, Purpose.OPERATOR), "defaultMode": 0o440}},
            CREDENTIALS,
            True,
        ),
    ]
    return _job(owner, cluster, settings, stamp, args, volumes, deadline)


_FILES: Final = {"ca": "ca.crt", "cert": "tls.crt", "key": "tls.key"}


def restore_job(
    owner: Owner,
    cluster: Cluster,
    settings: Settings,
    store: ClaimStore,
    archive: str,
    cluster_id: str,
    revision_jump: int,
) -> dict[str, Any]:
    """Begins the cluster on the volume of ordinal 0, which no pod has yet."""
    args = ["restore", f"{ARCHIVES}/{store.path}/{archive}", *_place(cluster, settings, 0)]
    args += ["--cluster-id", cluster_id, "--revision-jump", str(revision_jump)]
    archives = {"persistentVolumeClaim": {"claimName": store.claim_name, "readOnly": True}}
    volumes = [("archives", archives, ARCHIVES, True), _data(cluster, 0)]
    return _job(owner, cluster, settings, "restore", args, volumes, FOUNDING_S_MAX)


def look_job(owner: Owner, cluster: Cluster, settings: Settings, ordinal: int, cluster_id: str) -> dict[str, Any]:
    """Tells whether the volume of an ordinal is blank; it changes nothing on it."""
    args = ["look", "--data-dir", f"{DATA}/data", "--cluster-id", cluster_id]
    return _job(owner, cluster, settings, look_of(ordinal), args, [_data(cluster, ordinal)], LOOK_S_MAX)


def look_of(ordinal: int) -> str:
    """What a look at this ordinal's volume is for, in its Job's name."""
    return f"look {ordinal}"


def recovery_job(
    owner: Owner, cluster: Cluster, settings: Settings, ordinal: int, member_id: int, ids: tuple[str, str]
) -> dict[str, Any]:
    """Lets a new cluster take the survivor's place on its volume; `ids`: of the lost cluster, and of the new one."""
    args = ["recover", *_place(cluster, settings, ordinal), "--member-id", str(member_id)]
    args += ["--old-cluster-id", ids[0], "--cluster-id", ids[1]]
    return _job(owner, cluster, settings, "recover", args, [_data(cluster, ordinal)], FOUNDING_S_MAX)


def data_claim(cluster: Cluster, ordinal: int) -> dict[str, Any]:
    """The volume claim of an ordinal as the StatefulSet would make it: it takes one over that is there."""
    storage = cluster.spec.storage
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": storage.size}},
    }
    if storage.class_:
        spec["storageClassName"] = storage.class_
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": claim_name(cluster, ordinal),
            "namespace": cluster.namespace,
            "labels": labels(cluster),
        },
        "spec": spec,
    }


def _place(cluster: Cluster, settings: Settings, ordinal: int) -> list[str]:
    host = host_of(cluster, settings, ordinal)
    return [
        "--data-dir", f"{DATA}/data",
        "--name", pod_name(cluster, ordinal),
        "--advertise-client", f"{host}:{CLIENT_PORT}",
        "--advertise-peer", f"{host}:{PEER_PORT}",
    ]  # fmt: skip


Mount = tuple[str, dict[str, Any], str, bool]
"""Name, source, path, read-only."""


def _data(cluster: Cluster, ordinal: int) -> Mount:
    return ("data", {"persistentVolumeClaim": {"claimName": claim_name(cluster, ordinal)}}, DATA, False)


def _job(
    owner: Owner,
    cluster: Cluster,
    settings: Settings,
    what: str,
    args: list[str],
    mounts: list[Mount],
    deadline_s: int,
) -> dict[str, Any]:
    marks = {
        "app.kubernetes.io/name": "lockmaster-job",
        "app.kubernetes.io/managed-by": MANAGER,
        OWNER_LABEL: owner.uid,
    }
    reference = {"apiVersion": API_VERSION, "kind": owner.kind, "name": owner.name, "uid": owner.uid}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(owner, what),
            "namespace": owner.namespace,
            "labels": marks,
            "ownerReferences": [{**reference, "controller": True, "blockOwnerDeletion": True}],
        },
        "spec": {
            "backoffLimit": TRIES - 1,
            "activeDeadlineSeconds": deadline_s,
            "podReplacementPolicy": "Failed",  # never two on one volume
            "template": {"metadata": {"labels": marks}, "spec": _pod(cluster, settings, args, mounts)},
        },
    }


def _pod(cluster: Cluster, settings: Settings, args: list[str], mounts: list[Mount]) -> dict[str, Any]:
    template, scheduling = cluster.spec.pod_template, cluster.spec.scheduling
    container = {
        "name": "lockmaster",
        "image": image_of(cluster, settings),
        "imagePullPolicy": template.image_pull_policy,
        "args": ["job", *args, "--report", REPORT],
        "resources": resources_of(cluster),
        "terminationMessagePath": REPORT,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            *({"name": name, "mountPath": path, "readOnly": ro} for name, _, path, ro in mounts),
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    found: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            *({"name": name, **source} for name, source, _, _ in mounts),
            {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
        ],
    }
    if scheduling.tolerations:
        found["tolerations"] = [dict(toleration) for toleration in scheduling.tolerations]
    if scheduling.node_selector:
        found["nodeSelector"] = dict(scheduling.node_selector)
    if template.image_pull_secrets:
        found["imagePullSecrets"] = [{"name": name} for name in template.image_pull_secrets]
    return found
