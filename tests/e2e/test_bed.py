"""The bed itself, on which every other end-to-end test stands: pods on each node, DNS, claims, and every fault."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .bed import host, images
from .bed.cluster import Bed

pytestmark = pytest.mark.e2e

SPACE = "bed-smoke"
SECONDS = 60.0
Json = dict[str, Any]


def pod(name: str, image: str, **spec: Any) -> Json:
    """A pod that serves its /etc over HTTP, restricted as everything here has to be."""
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["httpd", "-f", "-p", "8080", "-h", "/etc"],
        "securityContext": security,
        "volumeMounts": spec.pop("volumeMounts", []),
    }
    # Without this a node that is away for 300 s, as where this machine stands still, loses its pods for good.
    stays = [{"operator": "Exists", "effect": "NoExecute"}]
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0, "tolerations": stays, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "bed-smoke"}}, "spec": spec}


class Space:
    """A namespace of the bed for one module's tests, with the strictest pod security."""

    def __init__(self, bed: Bed, image: str) -> None:
        self.bed = bed
        self.image = image

    def kubectl(self, *arguments: str, text_in: str | None = None) -> str:
        return self.bed.kubectl("-n", SPACE, *arguments, text_in=text_in)

    def apply(self, *objects: Json) -> None:
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "-f", "-", text_in=json.dumps(listed))

    def wait(self, *names: str) -> None:
        self.kubectl("wait", "--for=condition=Ready", "pod", *names, f"--timeout={SECONDS:g}s")

    def run(self, name: str, script: str) -> str:
        return self.kubectl("exec", name, "--", "sh", "-c", script)

    def hears(self, name: str, address: str) -> bool:
        """Whether a pod gets an answer from the pod at an address (by nc: wget of a static busybox crashes)."""
        request = "printf 'GET /passwd HTTP/1.0\\r\\n\\r\\n'"
        return self.runs(name, f"{request} | nc -w 3 {address} 8080 | grep -q root:")

    def address(self, name: str) -> str:
        return self.kubectl("get", "pod", name, "-o", "jsonpath={.status.podIP}")

    def runs(self, name: str, script: str) -> bool:
        try:
            self.run(name, script)
        except host.Failed:
            return False
        return True


@pytest.fixture(scope="module")
def space(bed: Bed) -> Iterator[Space]:
    one = Space(bed, bed.load_toolbox())
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE, "labels": label}}
    bed.kubectl("apply", "-f", "-", text_in=json.dumps(namespace))
    pods = [pod(f"on-{n.name}", one.image, nodeSelector={"kubernetes.io/hostname": n.name}) for n in bed.layout.nodes]
    one.apply(*pods)
    one.wait(*(each["metadata"]["name"] for each in pods))
    yield one
    bed.kubectl("delete", "namespace", SPACE, "--timeout=60s")


@pytest.fixture(autouse=True)
def whole_again(bed: Bed) -> Iterator[None]:
    """Whatever a test broke is mended before the next one."""
    yield
    bed.mend()


def test_a_pod_runs_on_each_node_in_its_zone(space: Space) -> None:
    for node in space.bed.layout.nodes:
        labels = space.bed.get("node", node.name)["metadata"]["labels"]
        assert labels["topology.kubernetes.io/zone"] == node.zone
        assert space.run(f"on-{node.name}", "hostname").strip() == f"on-{node.name}"


def test_pods_resolve_service_names_and_the_service_answers_on_each_node_and_on_the_host(space: Space) -> None:
    ports = [{"port": 8080}]
    web: Json = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
    space.apply({**web, "spec": {"selector": {"app": "bed-smoke"}, "ports": ports}})
    address = space.kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
    for node in space.bed.layout.nodes:
        assert address in space.run(f"on-{node.name}", f"nslookup web.{SPACE}.svc.cluster.local")
        assert space.hears(f"on-{node.name}", "web")
    with urllib.request.urlopen(f"http://{address}:8080/passwd", timeout=5) as answer:
        assert answer.status == 200


def test_a_name_outside_the_cluster_is_refused_at_once(space: Space) -> None:
    assert not space.runs("on-n1", "timeout 3 nslookup example.invalid.")


def test_a_claim_is_a_fresh_disk_that_keeps_its_data_grows_and_goes(space: Space) -> None:
    claim: Json = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    mounts = [{"name": "data", "mountPath": "/data"}]
    writer = pod("writer", space.image, volumes=volumes, volumeMounts=mounts, securityContext={"fsGroup": 10001})
    space.apply(claim, writer)
    space.wait("writer")
    space.run("writer", "echo kept > /data/x")
    space.kubectl("delete", "pod", "writer", "--wait")
    space.apply(writer)
    space.wait("writer")
    assert space.run("writer", "cat /data/x") == "kept\n"
    claim["spec"]["resources"]["requests"]["storage"] = "2Mi"
    space.apply(claim)
    space.kubectl("wait", "--for=jsonpath={.status.capacity.storage}=2Mi", "pvc/data", f"--timeout={SECONDS:g}s")
    volume = space.kubectl("get", "pvc", "data", "-o", "jsonpath={.spec.volumeName}")
    space.kubectl("delete", "pod/writer", "pvc/data", "--wait")
    space.kubectl("wait", "--for=delete", f"pv/{volume}", f"--timeout={SECONDS:g}s")


def test_a_node_without_power_is_not_ready_and_comes_back_with_its_pods(space: Space) -> None:
    space.bed.power_off("n3")
    space.bed.wait_node("n3", ready=False, seconds=SECONDS)
    assert not space.runs("on-n3", "true")
    space.bed.power_on("n3")
    space.bed.wait_node("n3", ready=True, seconds=SECONDS)
    host.wait_until("the pod's return", SECONDS, lambda: space.runs("on-n3", "true"))


def test_a_pulled_cable_makes_a_node_not_ready_while_its_pods_run_on(space: Space) -> None:
    space.bed.unplug("n2")
    space.bed.wait_node("n2", ready=False, seconds=SECONDS)
    assert "httpd" in space.bed.shell("n2", "sh", "-c", "cat /proc/[0-9]*/comm")
    space.bed.plug("n2")
    space.bed.wait_node("n2", ready=True, seconds=SECONDS)


def test_a_cut_between_two_nodes_is_for_their_pods_only(space: Space) -> None:
    second, third = space.address("on-n2"), space.address("on-n3")
    assert space.hears("on-n1", second)
    space.bed.cut("n1", "n2")
    assert not space.hears("on-n1", second)
    assert space.hears("on-n1", third)
    assert space.bed.node_is_ready("n1")
    space.bed.heal("n1", "n2")
    assert space.hears("on-n1", second)


def test_a_cut_to_the_api_server_leaves_the_nodes_other_links(space: Space) -> None:
    address = space.address("on-n2")
    space.bed.cut("n1", "cp")
    space.bed.wait_node("n1", ready=False, seconds=SECONDS)
    connect = f"import socket; socket.create_connection(('{address}', 8080), 5)"
    space.bed.shell("n1", sys.executable, "-c", connect)
    space.bed.heal("n1", "cp")
    space.bed.wait_node("n1", ready=True, seconds=SECONDS)


def test_an_outage_of_the_api_server_leaves_pods_alone(space: Space) -> None:
    before = space.bed.get("pod", "on-n1", "-n", SPACE)["status"]["containerStatuses"][0]["containerID"]
    space.bed.stop("kube-apiserver")
    with pytest.raises(host.Failed):
        space.bed.kubectl("--request-timeout=3s", "get", "nodes")
    space.bed.start("kube-apiserver")
    space.bed.wait_ready()
    assert space.bed.get("pod", "on-n1", "-n", SPACE)["status"]["containerStatuses"][0]["containerID"] == before


def test_a_killed_container_is_started_again(space: Space) -> None:
    space.bed.kill_container(SPACE, "on-n1")

    def restarted() -> bool:
        status = space.bed.get("pod", "on-n1", "-n", SPACE)["status"]["containerStatuses"][0]
        return bool(status["restartCount"] >= 1 and status["ready"])

    host.wait_until("the restart", SECONDS, restarted)


def test_an_image_from_a_dockerfile_runs(space: Space, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import os; print(os.getuid(), open('/built').read().strip())")
    steps = ["ARG BASE", "FROM ${BASE}", "COPY app.py /app.py", "RUN echo made > /built", "USER 10001:10001"]
    (tmp_path / "Dockerfile").write_text("\n".join([*steps, 'CMD ["python3", "/app.py"]']) + "\n")
    source = images.Dockerfile(tmp_path, arguments={"BASE": images.PYTHON_IMAGE})
    app = pod("app", space.bed.load_image("localhost/bed/smoke:1", source), restartPolicy="Never")
    del app["spec"]["containers"][0]["command"]
    space.apply(app)
    space.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/app", f"--timeout={SECONDS:g}s")
    assert space.kubectl("logs", "app") == "10001 made\n"
