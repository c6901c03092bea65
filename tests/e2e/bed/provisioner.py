"""Gives claims of the bed's class a directory on a node, as a volume of type `local`; takes it away; lets it grow.

A machine's program, standard library only: `python provisioner.py CONFIG.json`, which names the kubeconfig and where
the nodes' directories are. `local`, not hostPath: the kubelet applies fsGroup, and the directory belongs to root like
a fresh disk, so a chart that forgets fsGroup fails here as it would at a user's. Directories have no quota.

What to do is decided by the pure `decide` from three lists; the loop asks for them once a second.
"""

from __future__ import annotations

import base64
import json
import shutil
import ssl
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROVISIONER = "lockmaster.dev/bed"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
POLL_SECONDS = 1.0
REQUEST_SECONDS = 10.0
UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Create:
    """A directory on a node, then the volume object."""

    node: str
    volume: Json


@dataclass(frozen=True, slots=True)
class Remove:
    """The directory of a released volume, then the object."""

    node: str
    name: str


@dataclass(frozen=True, slots=True)
class Grow:
    """The volume's capacity, then the claim's."""

    name: str
    namespace: str
    claim: str
    size: str


Action = Create | Remove | Grow


def size_bytes(quantity: str) -> int:
    """A Kubernetes quantity of storage in bytes."""
    for unit, factor in UNITS.items():
        if quantity.endswith(unit):
            return int(float(quantity.removesuffix(unit)) * factor)
    return int(float(quantity))


def volume_for(claim: Json, node: str, directory: str, policy: str) -> Json:
    """The volume object of a claim, bound to it and to the node."""
    meta, spec = claim["metadata"], claim["spec"]
    reference = {"kind": "PersistentVolumeClaim", "apiVersion": "v1"}
    reference |= {key: meta[key] for key in ("name", "namespace", "uid")}
    name = f"pvc-{meta['uid']}"
    only_here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "persistentVolumeReclaimPolicy": policy,
            "storageClassName": spec["storageClassName"],
            "volumeMode": "Filesystem",
            "local": {"path": f"{directory}/{name}"},
            "claimRef": reference,
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [only_here]}]}},
        },
    }


def node_of(volume: Json) -> str:
    """The node that a volume of ours is on."""
    terms = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    return str(terms[0]["matchExpressions"][0]["values"][0])


def decide(claims: list[Json], volumes: list[Json], classes: list[Json], directory: str) -> list[Action]:
    """Everything to do now, in order; doing it twice does no harm."""
    policies = {c["metadata"]["name"]: c["reclaimPolicy"] for c in classes if c["provisioner"] == PROVISIONER}
    by_name = {volume["metadata"]["name"]: volume for volume in volumes}
    actions: list[Action] = []
    for claim in claims:
        meta, spec = claim["metadata"], claim["spec"]
        kind = spec.get("storageClassName", "")
        if kind not in policies:
            continue
        volume = by_name.get(f"pvc-{meta['uid']}")
        node = meta.get("annotations", {}).get(SELECTED_NODE)
        if volume is None:
            if node and claim["status"]["phase"] == "Pending":
                actions.append(Create(node, volume_for(claim, node, directory, policies[kind])))
            continue
        wanted = spec["resources"]["requests"]["storage"]
        has = claim["status"].get("capacity", {}).get("storage")
        if has and size_bytes(wanted) > size_bytes(has):
            actions.append(Grow(volume["metadata"]["name"], meta["namespace"], meta["name"], wanted))
    for volume in volumes:
        ours = volume["metadata"].get("annotations", {}).get("pv.kubernetes.io/provisioned-by") == PROVISIONER
        deletes = volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
        if ours and deletes and volume.get("status", {}).get("phase") == "Released":
            actions.append(Remove(node_of(volume), volume["metadata"]["name"]))
    return actions


class Api:
    """The API server, with the client certificate of a kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._server = cluster["server"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._context = ssl.create_default_context(cadata=authority)
        with tempfile.NamedTemporaryFile() as pair:
            for part in ("client-certificate-data", "client-key-data"):
                pair.write(base64.b64decode(user[part]))
            pair.flush()
            self._context.load_cert_chain(pair.name)

    def call(self, method: str, path: str, body: Json | None = None) -> Json:
        """One request; raises urllib's errors. A PATCH is a merge patch."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._server + path, data, {"Content-Type": kind}, method=method)
        with urllib.request.urlopen(request, timeout=REQUEST_SECONDS, context=self._context) as answer:
            found: Json = json.load(answer)
            return found

    def items(self, path: str) -> list[Json]:
        found: list[Json] = self.call("GET", path)["items"]
        return found


def perform(api: Api, action: Action, machines: Path, below: str) -> None:
    """Does one action. Raises OSError, urllib's errors included, where it couldn't: the next round tries again."""
    volumes = "/api/v1/persistentvolumes"
    match action:
        case Create(node, volume):
            (machines / node / below / volume["metadata"]["name"]).mkdir(parents=True, exist_ok=True)
            api.call("POST", volumes, volume)
        case Remove(node, name):
            shutil.rmtree(machines / node / below / name, ignore_errors=True)
            api.call("DELETE", f"{volumes}/{name}")
        case Grow(name, namespace, claim, size):
            capacity = {"capacity": {"storage": size}}
            api.call("PATCH", f"{volumes}/{name}", {"spec": capacity})
            status = {"status": {**capacity, "conditions": None}}
            api.call("PATCH", f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}/status", status)
    print(action, flush=True)


def main(config_file: Path) -> None:
    config = json.loads(config_file.read_text())
    api = Api(Path(config["kubeconfig"]))
    while True:
        time.sleep(POLL_SECONDS)
        try:
            claims = api.items("/api/v1/persistentvolumeclaims")
            volumes = api.items("/api/v1/persistentvolumes")
            classes = api.items("/apis/storage.k8s.io/v1/storageclasses")
        except OSError as error:
            print(f"lists: again in {POLL_SECONDS:g} s: {error}", flush=True)
            continue
        for action in decide(claims, volumes, classes, config["directory"]):
            try:
                perform(api, action, Path(config["machines"]), config["below"])
            except OSError as error:
                print(f"{action}: again in {POLL_SECONDS:g} s: {error}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
