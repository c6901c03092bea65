"""The machines' files and flags: what would quietly break if it were lost."""

from __future__ import annotations

import tomllib
from pathlib import Path

from . import configs, manifests
from .layout import layout_from
from .provisioner import PROVISIONER

LAYOUT = layout_from({})
NODE = LAYOUT.node("n2")
PATHS = {
    name: f"{name}-1/{name}"
    for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
}
STATE, STORE = Path("/state"), Path("/store")


def test_each_kubelet_has_a_group_of_its_own() -> None:
    roots = {configs.kubelet(LAYOUT, node, 8 << 30)["cgroupRoot"] for node in LAYOUT.nodes}
    assert roots == {"/lmbed/n1", "/lmbed/n2", "/lmbed/n3"}


def test_a_node_offers_four_gibibytes_however_large_the_machine() -> None:
    assert configs.kubelet(LAYOUT, NODE, 24 << 30)["systemReserved"] == {"memory": str(20 << 30)}
    assert "systemReserved" not in configs.kubelet(LAYOUT, NODE, 2 << 30)


def test_leases_are_renewed_well_within_the_grace_period() -> None:
    # A kubelet renews every quarter of the duration: two renewals may be lost before the node is NotReady.
    assert 3 * configs.LEASE_SECONDS / 4 < configs.GRACE_SECONDS - configs.LEASE_SECONDS / 4


def test_nodes_carry_their_zone() -> None:
    labels = next(flag for flag in configs.kubelet_flags(NODE) if flag.startswith("--node-labels"))
    assert "topology.kubernetes.io/zone=z2" in labels


def test_containerds_file_is_toml_and_finds_the_plugins() -> None:
    config = tomllib.loads(configs.containerd("/opt/cni/bin"))
    assert config["disabled_plugins"] == ["io.containerd.internal.v1.opt"]
    runtime = config["plugins"]["io.containerd.grpc.v1.cri"]
    assert runtime["restrict_oom_score_adj"] is True
    assert runtime["cni"] == {"bin_dir": "/opt/cni/bin", "conf_dir": "/run/bed/cni"}
    assert runtime["sandbox_image"] == configs.PAUSE_IMAGE


def test_a_nodes_machine_covers_the_kernels_values() -> None:
    spec = configs.node_spec(LAYOUT, NODE, STATE, STORE, PATHS, "/bin/containerd")
    files = configs.node_files(LAYOUT, NODE, 8 << 30, "/cni")
    for name, value in configs.KERNEL_VALUES.items():
        assert ["--bind", f"/run/bed/kernel/{name}", f"/proc/sys/{name}"] in spec["mounts"]
        assert files[f"kernel/{name}"] == f"{value}\n"


def test_machines_run_what_the_layout_says_by_absolute_paths() -> None:
    node = configs.node_spec(LAYOUT, NODE, STATE, STORE, PATHS, "/bin/containerd")
    control = configs.control_spec(LAYOUT, STATE, STORE, PATHS, ["/bin/python3", "/x/provisioner.py"])
    for machine, spec in (("n2", node), ("cp", control)):
        assert tuple(program["name"] for program in spec["programs"]) == LAYOUT.programs_of(machine)
        assert all(program["command"][0].startswith("/") for program in spec["programs"])


def test_a_machines_directory_is_mounted_before_what_is_taken_from_it() -> None:
    mounts = configs.node_spec(LAYOUT, NODE, STATE, STORE, PATHS, "/bin/containerd")["mounts"]
    targets = [mount[-1] for mount in mounts]
    assert targets[:2] == ["/run", "/run/bed"]
    assert targets.index("/run/bed") < targets.index("/var/lib")


def test_no_file_of_a_machine_holds_a_path_of_the_host() -> None:
    texts = [*configs.node_files(LAYOUT, NODE, 8 << 30, "/cni").values(), *configs.control_files(LAYOUT).values()]
    assert [text for text in texts if "/state" in text or "/store" in text] == []


def test_the_dns_service_has_the_address_that_kubelets_hand_out() -> None:
    services = [item for item in manifests.everything(LAYOUT)["items"] if item["kind"] == "Service"]
    assert [service["spec"]["clusterIP"] for service in services] == [
        configs.kubelet(LAYOUT, NODE, 8 << 30)["clusterDNS"][0]
    ]


def test_dns_forwards_nothing_out_of_the_cluster() -> None:
    assert "forward" not in manifests.COREFILE


def test_one_node_gets_one_dns_server() -> None:
    single = layout_from({"LOCKMASTER_BED_NODES": "1"})
    replicas = [i["spec"]["replicas"] for i in manifests.everything(single)["items"] if i["kind"] == "Deployment"]
    assert replicas == [1]


def test_the_default_class_is_the_provisioners_and_waits_for_a_pod() -> None:
    (storage,) = manifests.storage()
    assert storage["provisioner"] == PROVISIONER
    assert storage["volumeBindingMode"] == "WaitForFirstConsumer"
    assert storage["metadata"]["annotations"] == {"storageclass.kubernetes.io/is-default-class": "true"}
