"""The files and flags of every program of the bed, as pure functions. Sources: the programs' own documentation.

A machine sees its own directory at /run/bed and the programs at /run/programs, so no file holds a path of the host.
Flags whose reason isn't plain carry it; without them a kubelet beside others on one machine, in namespaces and with
cgroup v1, doesn't come up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .layout import CONTROL, Layout, Node
from .machine import BED, ProgramSpec, Spec

PROGRAMS = "/run/programs"
MACHINES = "/run/machines"
"""Where the control plane's machine sees the directories of all machines: the provisioner makes volumes there."""
DOMAIN = "cluster.local"
PAUSE_IMAGE = "localhost/bed/pause:1"
VOLUMES = "bed-volumes"
"""The directory of a node's volumes, below its /var/lib."""
NODE_MEMORY_BYTES = 4 << 30
"""What each node offers to pods."""
LEASE_SECONDS = 8
GRACE_SECONDS = 12
"""A node is NotReady this long after its last lease. The lease is renewed every quarter of its duration."""
KERNEL_VALUES = {"vm/overcommit_memory": 1, "vm/panic_on_oom": 0, "kernel/panic": 10, "kernel/panic_on_oops": 1}
"""The kubelet writes these for the whole machine; a file with the value it wants, laid over each, spares the host."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Json = dict[str, Any]


def as_file(value: Json) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def pki(name: str) -> str:
    return f"{BED}/pki/{name}"


def kubeconfig(server: str, authority: str, certificate: str, key: str) -> Json:
    """A client's configuration, with everything in it, base64 of PEM."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "bed", "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": "bed", "user": {"client-certificate-data": certificate, "client-key-data": key}}],
        "contexts": [{"name": "bed", "context": {"cluster": "bed", "user": "bed"}}],
        "current-context": "bed",
    }


def kubelet(layout: Layout, node: Node, memory_total_bytes: int) -> Json:
    """The kubelet's configuration on one node of a machine with that much memory."""
    config: Json = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,
        "failSwapOn": False,
        "cgroupDriver": "cgroupfs",
        # An own root for each: two kubelets on one would remove each other's pods as orphans.
        "cgroupRoot": cgroup_root(layout, node.name),
        # A process without CAP_SYS_RESOURCE can't lower it.
        "oomScoreAdj": 0,
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "resolvConf": f"{BED}/resolv.conf",
        "clusterDNS": [layout.dns_address],
        "clusterDomain": DOMAIN,
        "address": node.address,
        "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": pki("ca.crt")}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": pki("kubelet.crt"),
        "tlsPrivateKeyFile": pki("kubelet.key"),
        # Shorter than the grace period by far: else nodes flap.
        "nodeLeaseDurationSeconds": LEASE_SECONDS,
        "nodeStatusUpdateFrequency": "4s",
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "serializeImagePulls": False,
        "maxPods": 100,
        "makeIPTablesUtilChains": False,
        "volumePluginDir": "/var/lib/kubelet/volumeplugins",
    }
    if memory_total_bytes > NODE_MEMORY_BYTES:
        config["systemReserved"] = {"memory": str(memory_total_bytes - NODE_MEMORY_BYTES)}
    return config


def cgroup_root(layout: Layout, machine: str) -> str:
    return f"/{layout.name}/{machine}"


def kube_proxy(layout: Layout) -> Json:
    """The Service addresses of one machine. Nothing of the kernel's connection tracking is set: it isn't ours."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": layout.pod_network,
        "clientConnection": {"kubeconfig": f"{BED}/kube-proxy.kubeconfig"},
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "oomScoreAdj": 0,
    }


def containerd(cni_programs: str) -> str:
    """containerd 1.6 or 1.7, as the kubelet's runtime."""
    return f"""version = 2
# It would make /opt/containerd on the host.
disabled_plugins = ["io.containerd.internal.v1.opt"]
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
# Without CAP_SYS_RESOURCE: else "can't get final child's PID from pipe: EOF".
restrict_oom_score_adj = true
disable_apparmor = true
enable_unprivileged_ports = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{cni_programs}"
conf_dir = "{BED}/cni"
"""


def pod_links(node: Node) -> Json:
    """The CNI configuration: a bridge of the node's own, addresses of its pod network, nothing masqueraded."""
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": node.pod_network}]], "routes": [{"dst": "0.0.0.0/0"}]},
    }
    return {"cniVersion": "1.0.0", "name": "bed", "plugins": [bridge]}


def flags(**values: str) -> list[str]:
    """Keyword arguments as --long-options."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]


def etcd_flags() -> list[str]:
    """One member on the loopback of its namespace; a test bed's disk needs no fsync."""
    client = "http://127.0.0.1:2379"
    listen = flags(listen_client_urls=client, advertise_client_urls=client, listen_peer_urls="http://127.0.0.1:2380")
    return [f"--data-dir={BED}/etcd", *listen, "--unsafe-no-fsync", "--log-level=warn"]


def api_server_flags(layout: Layout) -> list[str]:
    return flags(
        etcd_servers="http://127.0.0.1:2379",
        bind_address="0.0.0.0",
        advertise_address=layout.control_address,
        secure_port="6443",
        tls_cert_file=pki("api.crt"),
        tls_private_key_file=pki("api.key"),
        client_ca_file=pki("ca.crt"),
        service_account_issuer=f"https://kubernetes.default.svc.{DOMAIN}",
        service_account_key_file=pki("accounts.pub"),
        service_account_signing_key_file=pki("accounts.key"),
        service_cluster_ip_range=layout.service_network,
        authorization_mode="Node,RBAC",
        enable_admission_plugins="NodeRestriction",
        allow_privileged="true",
        kubelet_client_certificate=pki("kubelet-client.crt"),
        kubelet_client_key=pki("kubelet-client.key"),
        kubelet_certificate_authority=pki("ca.crt"),
        kubelet_preferred_address_types="InternalIP",
    )


def controller_manager_flags() -> list[str]:
    return flags(
        kubeconfig=f"{BED}/kube-controller-manager.kubeconfig",
        use_service_account_credentials="true",
        service_account_private_key_file=pki("accounts.key"),
        root_ca_file=pki("ca.crt"),
        cluster_signing_cert_file=pki("ca.crt"),
        cluster_signing_key_file=pki("ca.key"),
        leader_elect="false",
        node_monitor_period="2s",
        node_monitor_grace_period=f"{GRACE_SECONDS}s",
    )


def scheduler_flags() -> list[str]:
    return flags(kubeconfig=f"{BED}/kube-scheduler.kubeconfig", leader_elect="false")


def kubelet_flags(node: Node) -> list[str]:
    zone, region = f"topology.kubernetes.io/zone={node.zone}", "topology.kubernetes.io/region=bed"
    return flags(
        config=f"{BED}/kubelet.json",
        kubeconfig=f"{BED}/kubelet.kubeconfig",
        hostname_override=node.name,
        node_ip=node.address,
        node_labels=f"{zone},{region}",
    )


def proxy_flags(node_name: str) -> list[str]:
    return flags(config=f"{BED}/kube-proxy.json", hostname_override=node_name)


def spec(layout: Layout, machine: str, programs: Mapping[str, list[str]], mounts: list[list[str]]) -> Spec:
    listed: list[ProgramSpec] = [{"name": name, "command": programs[name]} for name in layout.programs_of(machine)]
    return {
        "hostname": layout.namespace(machine),
        "mounts": mounts,
        "environment": {"PATH": PATH, "HOME": str(BED), "LANG": "C.UTF-8"},
        "programs": listed,
    }


def base_mounts(state: Path, programs: Path, machine: str) -> list[list[str]]:
    """An own /run, in it the machine's directory and the programs."""
    return [
        ["-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"],
        ["--bind", str(state / "machines" / machine), str(BED)],
        ["--bind", str(programs), PROGRAMS],
    ]


def control_spec(layout: Layout, state: Path, programs: Path, paths: Mapping[str, str], python: list[str]) -> Spec:
    """The control plane. `paths` are the programs' below `programs`; `python` runs the provisioner's file."""
    mounts = [*base_mounts(state, programs, CONTROL), ["--bind", str(state / "machines"), MACHINES]]
    commands = {
        "etcd": [*within(paths, "etcd"), *etcd_flags()],
        "kube-apiserver": [*within(paths, "kube-apiserver"), *api_server_flags(layout)],
        "kube-controller-manager": [*within(paths, "kube-controller-manager"), *controller_manager_flags()],
        "kube-scheduler": [*within(paths, "kube-scheduler"), *scheduler_flags()],
        # It serves the host, which isn't a node; kube-proxy wants the name of one.
        "kube-proxy": [*within(paths, "kube-proxy"), *proxy_flags(layout.nodes[0].name)],
        "provisioner": [*python, f"{BED}/provisioner.json"],
    }
    return spec(layout, CONTROL, commands, mounts)


def node_spec(layout: Layout, node: Node, state: Path, programs: Path, paths: Mapping[str, str], runtime: str) -> Spec:
    """A node: its own /var/lib and /var/log, and the kernel's values covered. `runtime` is containerd's path."""
    mounts = base_mounts(state, programs, node.name)
    mounts += [["--bind", f"{BED}/lib", "/var/lib"], ["--bind", f"{BED}/varlog", "/var/log"]]
    mounts += [["--bind", f"{BED}/kernel/{name}", f"/proc/sys/{name}"] for name in KERNEL_VALUES]
    commands = {
        "containerd": [runtime, "--config", f"{BED}/containerd.toml"],
        "kubelet": [*within(paths, "kubelet"), *kubelet_flags(node)],
        "kube-proxy": [*within(paths, "kube-proxy"), *proxy_flags(node.name)],
    }
    return spec(layout, node.name, commands, mounts)


def within(paths: Mapping[str, str], name: str) -> list[str]:
    return [f"{PROGRAMS}/{paths[name]}"]


def node_files(layout: Layout, node: Node, memory_total_bytes: int, cni_programs: str) -> dict[str, str]:
    """Name below the node's directory → content."""
    files = {
        "kubelet.json": as_file(kubelet(layout, node, memory_total_bytes)),
        "kube-proxy.json": as_file(kube_proxy(layout)),
        "containerd.toml": containerd(cni_programs),
        "cni/bed.conflist": as_file(pod_links(node)),
        # Nothing outside the cluster is asked.
        "resolv.conf": "",
    }
    return files | {f"kernel/{name}": f"{value}\n" for name, value in KERNEL_VALUES.items()}


def control_files(layout: Layout) -> dict[str, str]:
    """Name below the control plane's directory → content."""
    provisioner = {
        "kubeconfig": f"{BED}/provisioner.kubeconfig",
        "directory": f"/var/lib/{VOLUMES}",
        "machines": MACHINES,
        "below": f"lib/{VOLUMES}",
    }
    return {"kube-proxy.json": as_file(kube_proxy(layout)), "provisioner.json": as_file(provisioner)}
