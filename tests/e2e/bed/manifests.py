"""What the bed applies to its fresh cluster: DNS, the class of volumes, and two rights. Pure, as JSON objects."""

from __future__ import annotations

from .configs import DOMAIN, Json
from .layout import Layout
from .provisioner import PROVISIONER

DNS_IMAGE = "localhost/bed/coredns:1"
DNS_LABELS = {"k8s-app": "kube-dns"}
DNS_REPLICAS = 2
STORAGE_CLASS = "bed"

COREFILE = f""".:53 {{
    errors
    health
    ready
    kubernetes {DOMAIN} in-addr.arpa ip6.arpa {{
        pods insecure
        ttl 5
    }}
    cache 5
    loadbalance
}}
"""
"""No forwarding: a name from outside the cluster is refused at once, nothing leaves the bed."""


def meta(name: str, namespace: str = "", **more: object) -> Json:
    return {"name": name, **({"namespace": namespace} if namespace else {}), **more}


def role(name: str, rules: list[Json], subject: Json) -> list[Json]:
    """A ClusterRole and its binding to one subject."""
    group = "rbac.authorization.k8s.io"
    binding = {"apiGroup": group, "kind": "ClusterRole", "name": name}
    return [
        {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": meta(name), "rules": rules},
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": meta(name),
            "roleRef": binding,
            "subjects": [subject],
        },
    ]


def rule(groups: list[str], resources: list[str], verbs: list[str]) -> Json:
    return {"apiGroups": groups, "resources": resources, "verbs": verbs}


def rights() -> list[Json]:
    """For the DNS server; and nodes may read claims: the Node authorizer's graph lags, and a kubelet that was refused
    once tries again only after 10 to 15 s."""
    reads = [rule([""], ["endpoints", "services", "pods", "namespaces"], ["list", "watch"])]
    reads.append(rule(["discovery.k8s.io"], ["endpointslices"], ["list", "watch"]))
    dns = role("bed:dns", reads, {"kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system"})
    group = {"kind": "Group", "name": "system:nodes", "apiGroup": "rbac.authorization.k8s.io"}
    claims = rule([""], ["persistentvolumeclaims", "persistentvolumes"], ["get"])
    return dns + role("bed:nodes-read-claims", [claims], group)


def dns_pod() -> Json:
    """The pod of the DNS server; a replica for each of two nodes, since either may lose its power."""
    ports: list[Json] = [{"name": "dns", "containerPort": 53, "protocol": "UDP"}]
    ports.append({"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"})
    container: Json = {
        "name": "coredns",
        "image": DNS_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["/coredns", "-conf", "/etc/coredns/Corefile"],
        "ports": ports,
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns"}],
        # The default of 1 s takes a busy machine for a dead server.
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1, "timeoutSeconds": 5},
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "170Mi"}},
    }
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": DNS_LABELS},
    }
    short = [
        {"key": f"node.kubernetes.io/{state}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 10}
        for state in ("not-ready", "unreachable")
    ]
    return {
        "serviceAccountName": "coredns",
        "priorityClassName": "system-cluster-critical",
        "dnsPolicy": "Default",
        "containers": [container],
        "topologySpreadConstraints": [spread],
        "tolerations": short,
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
    }


def dns(layout: Layout) -> list[Json]:
    """The DNS server and its Service at the address that kubelets give to pods."""
    space = "kube-system"
    ports = [
        {"name": "dns", "port": 53, "targetPort": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "targetPort": 53, "protocol": "TCP"},
    ]
    template = {"metadata": {"labels": DNS_LABELS}, "spec": dns_pod()}
    replicas = min(DNS_REPLICAS, len(layout.nodes))
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta("coredns", space)},
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": meta("coredns", space),
            "data": {"Corefile": COREFILE},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta("coredns", space),
            "spec": {"replicas": replicas, "selector": {"matchLabels": DNS_LABELS}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta("kube-dns", space, labels=DNS_LABELS),
            "spec": {"selector": DNS_LABELS, "clusterIP": layout.dns_address, "ports": ports},
        },
    ]


def storage() -> list[Json]:
    """The default class: a claim gets a directory on the node that its first pod is scheduled to."""
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    return [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": meta(STORAGE_CLASS, annotations=default),
            "provisioner": PROVISIONER,
            "volumeBindingMode": "WaitForFirstConsumer",
            "reclaimPolicy": "Delete",
            "allowVolumeExpansion": True,
        }
    ]


def everything(layout: Layout) -> Json:
    """All of it as one List, for one call of kubectl."""
    return {"apiVersion": "v1", "kind": "List", "items": [*rights(), *storage(), *dns(layout)]}
