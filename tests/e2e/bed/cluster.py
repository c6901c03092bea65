"""A real Kubernetes on this machine: up, down, and the faults a test gives it. Everything here acts.

Order of `up`: programs, directories and keys, namespaces, the control plane, the nodes, images, what the cluster
itself must have. `down` needs nothing but the bed's name: it also removes what a half-done `up` left.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import shutil
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from . import builds, cgroups, configs, host, images, machines, manifests, network, pki
from .configs import Json
from .layout import CONTROL, BadName, Layout, Node, Places, clashes, layout_from, places_from, routed_networks
from .recipes import HELM_3, PROGRAMS

RECORD = "bed.json"
API_SECONDS = 60.0
READY_SECONDS = 120.0
NETNS = Path("/run/netns")


def kernel_values() -> dict[str, str]:
    """The host's values that a kubelet would change."""
    return {name: Path("/proc/sys", name).read_text().strip() for name in configs.KERNEL_VALUES}


def memory_total_bytes() -> int:
    words = Path("/proc/meminfo").read_text().split()
    return int(words[words.index("MemTotal:") + 1]) << 10


def layout_to_json(layout: Layout) -> Json:
    return dataclasses.asdict(layout)


def layout_from_json(value: Json) -> Layout:
    return Layout(**{**value, "nodes": tuple(Node(**node) for node in value["nodes"])})


class Bed:
    """One bed. Its methods raise host.Failed where a step doesn't work, and return once the effect is there."""

    def __init__(self, layout: Layout, places: Places) -> None:
        self.layout = layout
        self.places = places

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> Bed:
        """The bed that the environment names: as it was brought up, where it is. Raises BadSetting."""
        asked = layout_from(environment)
        places = places_from(environment, asked.name)
        record = places.state / RECORD
        layout = layout_from_json(json.loads(record.read_text())["layout"]) if record.exists() else asked
        return cls(layout, places)

    # Up and down

    def is_up(self) -> bool:
        """Whether a cluster was brought up and its control plane has power: nodes may be in trouble."""
        return self.places.kubeconfig.exists() and machines.is_on(self.places, CONTROL)

    def require_up(self) -> None:
        """Raises Failed where there is no cluster, not even a half-done one."""
        if not machines.is_on(self.places, CONTROL):
            raise host.Failed(f"no cluster of the name {self.layout.name}: make cluster brings it up")

    def up(self) -> None:
        """Brings the cluster up, ready for pods; where there is one, mends it. Raises Cannot, Failed.

        Interrupted (KeyboardInterrupt) or unable, it leaves nothing. A failure leaves everything, for its logs.
        """
        host.require_root_and_linux()
        host.require_tools(host.CLUSTER_TOOLS, cni=True)
        programs = builds.ensure(self.places.cache)
        with host.locked(self.places.cache / f"{self.layout.name}.lock", "this cluster"):
            started = time.monotonic()
            if self.is_up():
                self.mend()
            else:
                self._remove()
                self._bring_up_or_back(programs)
            host.say(f"up in {time.monotonic() - started:.1f} s: {len(self.layout.nodes)} nodes")

    def _bring_up_or_back(self, programs: Mapping[str, str]) -> None:
        try:
            self._bring_up(programs)
        except host.Failed:
            host.say(f"logs: {self.places.state}/machines/*/log/; make cluster-down removes what is there")
            raise
        except host.Cannot:
            self._remove()
            raise
        except KeyboardInterrupt:
            with host.uninterrupted():
                host.say("interrupted: removing what is there")
                self._remove()
            raise

    def _bring_up(self, programs: Mapping[str, str]) -> None:
        self._check_routes()
        self._write_files(programs)
        tars = images.own_images(self.places, programs)
        host.say("network and control plane")
        host.run_all(network.control_up(self.layout))
        machines.start(self.layout, self.places, CONTROL)
        for node in self.layout.nodes:
            self._power_on(node)
        host.say("images on nodes")
        self._import(tars)
        self._wait_for_api(API_SECONDS)
        host.say("API server ready; DNS, storage")
        self.kubectl("apply", "--server-side", "-f", "-", text_in=configs.as_file(manifests.everything(self.layout)))
        self.wait_ready()
        # Only a whole cluster has one: what is_up goes by.
        shutil.copy(self.places.draft_kubeconfig, self.places.kubeconfig)

    def _check_routes(self) -> None:
        """The host must not have these networks already: the bed's routes would take its traffic."""
        wanted = [f"{self.layout.network}.0/24", self.layout.pod_network, self.layout.service_network]
        taken = clashes(wanted, routed_networks(host.run(("ip", "-4", "route"))))
        if taken:
            names = "LOCKMASTER_BED_NETWORK, _PODS, _SERVICES"
            raise host.Cannot(f"this machine already routes {', '.join(taken)}: choose other networks by {names}")

    def _write_files(self, programs: Mapping[str, str]) -> None:
        """Everything the machines read: the state directory, from nothing."""
        record = {
            "layout": layout_to_json(self.layout),
            "kernel": kernel_values(),
            "netns_was_mounted": NETNS.is_mount(),
        }
        self._write(self.places.state / RECORD, configs.as_file(record))
        for machine, keys in pki.machine_files(self.layout, datetime.datetime.now(datetime.UTC)).items():
            directory = self.places.machine(machine) if machine else self.places.state
            for name, content in keys.items():
                self._write(directory / name, content.decode(), 0o600)
        runtime, cni = shutil.which("containerd"), host.cni_programs()
        if runtime is None or cni is None:
            raise host.Cannot("containerd or its CNI plugins are missing")
        store = self.places.cache / "programs"
        for node in self.layout.nodes:
            files = configs.node_files(self.layout, node, memory_total_bytes(), cni)
            spec = configs.node_spec(self.layout, node, self.places.state, store, programs, runtime)
            self._write_machine(node.name, {**files, "spec.json": configs.as_file({**spec})})
            for folder in ("lib", "varlog"):
                (self.places.machine(node.name) / folder).mkdir()
        provisioner = [str(machines.PYTHON), str(Path(__file__).with_name("provisioner.py"))]
        spec = configs.control_spec(self.layout, self.places.state, store, programs, provisioner)
        self._write_machine(CONTROL, {**configs.control_files(self.layout), "spec.json": configs.as_file({**spec})})

    def _write_machine(self, machine: str, files: Mapping[str, str]) -> None:
        for name, content in files.items():
            self._write(self.places.machine(machine) / name, content)

    @staticmethod
    def _write(path: Path, content: str, mode: int = 0o644) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(mode)

    def down(self) -> None:
        """Removes every trace of the cluster; nothing to do where there is none. Raises Failed, naming what stays."""
        host.require_root_and_linux()
        with host.locked(self.places.cache / f"{self.layout.name}.lock", "this cluster"):
            self._remove()
        left = self.traces()
        if left:
            raise host.Failed("still there: " + "; ".join(left))
        host.say("gone: no process, namespace, link, mount, cgroup or file is left")

    def _remove(self) -> None:
        changed = self._changed_kernel_values()
        for machine in self._machines_left():
            machines.kill(self.layout, self.places, machine)
            if (NETNS / self.layout.namespace(machine)).exists():
                host.run(("ip", "netns", "delete", self.layout.namespace(machine)))
        if Path("/sys/class/net", self.layout.host_link).exists():
            host.run(("ip", "link", "delete", self.layout.host_link))
        cgroups.remove(f"/{self.layout.name}")
        if NETNS.is_mount() and not self._record().get("netns_was_mounted", True) and not any(NETNS.iterdir()):
            host.run(("umount", str(NETNS)))
            NETNS.rmdir()
        shutil.rmtree(self.places.state, ignore_errors=True)
        if changed:
            raise host.Failed("kernel values of the host have changed while the bed was up: " + ", ".join(changed))

    def _record(self) -> dict[str, Any]:
        try:
            record: dict[str, Any] = json.loads((self.places.state / RECORD).read_text())
        except OSError:
            return {}
        return record

    def _changed_kernel_values(self) -> list[str]:
        before, now = self._record().get("kernel", {}), kernel_values()
        return [f"{name} was {value}, is {now[name]}" for name, value in before.items() if now[name] != value]

    def _machines_left(self) -> list[str]:
        """Those of the layout, and any other namespace of this name: a bed of more nodes, half removed."""
        prefix = self.layout.namespace("")
        found = [path.name.removeprefix(prefix) for path in NETNS.glob(f"{prefix}*")] if NETNS.exists() else []
        return sorted({*self.layout.machines, *found})

    def traces(self) -> list[str]:
        """What is left of the bed on this machine, a line each."""
        left = [f"process {pid}" for pid in machines.processes_of(self.places)]
        left += [f"namespace {path.name}" for path in NETNS.glob(self.layout.namespace("*"))]
        link = Path("/sys/class/net", self.layout.host_link)
        left += [f"link {link.name}"] if link.exists() else []
        groups = [one.mount / self.layout.name for one in cgroups.hierarchies()]
        left += [f"cgroup {group}" for group in groups if group.exists()]
        state = str(self.places.state)
        left += [f"mount {line.split()[1]}" for line in Path("/proc/mounts").read_text().splitlines() if state in line]
        left += [f"directory {state}"] if self.places.state.exists() else []
        return left

    # Waiting and asking

    def kubectl(self, *arguments: str, text_in: str | None = None, seconds: float = host.COMMAND_SECONDS) -> str:
        """What kubectl printed. Raises Failed with its message."""
        return host.run(self.kubectl_command(*arguments), text_in, seconds)

    def kubectl_command(self, *arguments: str) -> tuple[str, ...]:
        """kubectl as administrator of this bed."""
        return (str(self.program("kubectl")), f"--kubeconfig={self.places.draft_kubeconfig}", *arguments)

    def program(self, name: str) -> Path:
        """A program, for the tests: kubectl, helm; helm3 is built where the cache lacks it."""
        if name == HELM_3.name:
            builds.ensure(self.places.cache, (HELM_3,))
        step = next(step for step in builds.plan((*PROGRAMS, HELM_3)) if step.program.name == name)
        return self.places.cache / "programs" / step.path

    def get(self, *arguments: str) -> Json:
        """`kubectl get ... -o json`."""
        found: Json = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return found

    def _answers(self, *arguments: str) -> bool:
        try:
            self.kubectl("--request-timeout=5s", *arguments, seconds=15)
        except host.Failed:
            return False
        return True

    def _wait_for_api(self, seconds: float) -> None:
        host.wait_until("the API server", seconds, lambda: self._answers("get", "--raw", "/readyz"))

    def wait_ready(self) -> None:
        """Until every node is Ready, DNS answers and pods can be made in the default namespace."""
        wait = f"--timeout={READY_SECONDS:g}s"
        self.kubectl("wait", "--for=create", "node", *(node.name for node in self.layout.nodes), wait)
        for node in self.layout.nodes:
            self.wait_node(node.name, ready=True)
        self.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", wait, seconds=READY_SECONDS + 10)
        self.kubectl("wait", "--for=create", "serviceaccount/default", wait)

    def node_is_ready(self, name: str) -> bool:
        conditions = self.get("node", name)["status"]["conditions"]
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def wait_node(self, name: str, ready: bool, seconds: float = READY_SECONDS) -> float:
        """The seconds until the API server shows the node as ready, or as not."""
        what = f"{name} {'Ready' if ready else 'NotReady'}"
        return host.wait_until(what, seconds, lambda: self.node_is_ready(name) == ready)

    # Images

    def load_image(self, name: str, source: images.Rootfs | images.Dockerfile) -> str:
        """Builds an image and puts it on every node that has power. Returns the name that pods use."""
        self._import([images.build(self.places, name, source)])
        return name

    def load_toolbox(self) -> str:
        """The bed's image with a shell on every node."""
        self._import([images.toolbox(self.places)])
        return images.TOOLBOX_IMAGE

    def _import(self, tars: list[Path]) -> None:
        nodes = [node.name for node in self.layout.nodes if machines.is_on(self.places, node.name)]
        for node in nodes:
            answers = partial(succeeds, machines.entered(self.places, node, "ctr", "version"))
            host.wait_until(f"containerd on {node}", API_SECONDS, answers)
        images.import_all(self.places, nodes, tars)

    # Faults

    def _powered(self, *names: str) -> None:
        """Raises Failed where one of these machines has no power, BadName where it isn't of the bed."""
        for name in names:
            self.layout.programs_of(name)
            if not machines.is_on(self.places, name):
                raise host.Failed(f"{name} has no power")

    def _power_on(self, node: Node) -> None:
        host.run_all(network.node_up(self.layout, node))
        cgroups.make(configs.cgroup_root(self.layout, node.name))
        machines.start(self.layout, self.places, node.name)

    def power_off(self, name: str) -> None:
        """Cuts a node's power: every process on it ends at once, its link goes down; its disk stays."""
        node = self.layout.node(name)
        self._powered(name)
        machines.kill(self.layout, self.places, name)
        host.run_all(network.node_down(self.layout, node))
        # Left behind, each would cost the next kubelet some seconds.
        cgroups.remove(configs.cgroup_root(self.layout, name))

    def power_on(self, name: str) -> None:
        """Boots a node that has no power, with the disk it had; cuts of its links are healed by that."""
        node = self.layout.node(name)
        if machines.is_on(self.places, name):
            raise host.Failed(f"{name} has power")
        self._power_on(node)

    def unplug(self, name: str) -> None:
        """Pulls a node's cable: it runs on, and nothing reaches it."""
        node = self.layout.node(name)
        self._powered(name)
        host.run_all(network.cable(self.layout, node, plugged=False))

    def plug(self, name: str) -> None:
        """Puts it back."""
        node = self.layout.node(name)
        self._powered(name)
        host.run_all(network.cable(self.layout, node, plugged=True))

    def cut(self, first: str, second: str, one_way: bool = False) -> None:
        """Cuts the link between two machines (`cp` is the API server) for them and their pods.

        `one_way`: only `first` no longer hears `second`.
        """
        pairs = network.cut_pairs(first, second, one_way)
        self._powered(first, second)
        for deaf, mute in pairs:
            host.run_all(network.cut(self.layout, deaf, mute))

    def heal(self, first: str, second: str) -> None:
        """Undoes every cut between two machines."""
        pairs = network.cut_pairs(first, second, one_way=False)
        self._powered(first, second)
        for deaf, mute in pairs:
            host.run_all(network.heal(self.layout, deaf, mute))

    def stop(self, program: str, machine: str = CONTROL) -> None:
        """Kills a program (kube-apiserver, etcd, kubelet, containerd, ...) and keeps it down until `start`."""
        machines.hold(self.layout, self.places, machine, program, held=True)

    def start(self, program: str, machine: str = CONTROL) -> None:
        """Lets a program run again; back once the API server answers where it is one that the API server needs."""
        machines.hold(self.layout, self.places, machine, program, held=False)
        if program in ("kube-apiserver", "etcd"):
            self._wait_for_api(API_SECONDS)

    def restart(self, program: str, machine: str = CONTROL) -> None:
        """Kills a program; it is back at once."""
        self.stop(program, machine)
        self.start(program, machine)

    def kill_container(self, namespace: str, pod: str, container: str = "") -> None:
        """SIGKILL to the first process of a pod's container, as from a kernel out of memory. Raises Failed, BadName."""
        found = self.get("pod", pod, "-n", namespace)
        statuses = found["status"].get("containerStatuses", [])
        status = next((one for one in statuses if not container or one["name"] == container), None)
        if status is None:
            names = ", ".join(one["name"] for one in statuses) or "none yet"
            raise BadName(f"no container {container!r} in pod {pod}: it has {names}")
        identity = status["containerID"].removeprefix("containerd://")
        kill = ("ctr", "-n", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", identity)
        host.run(machines.entered(self.places, found["spec"]["nodeName"], *kill))

    def mend(self) -> None:
        """Undoes every fault: power, cables, cuts, stopped programs; back once the cluster is ready."""
        for node in self.layout.nodes:
            if not machines.is_on(self.places, node.name):
                self._power_on(node)
            self.plug(node.name)
        for machine in self.layout.machines:
            host.run_all(network.heal_all(self.layout, machine))
            for program, state in machines.programs(self.places, machine).items():
                if state["held"]:
                    machines.hold(self.layout, self.places, machine, program, held=False)
        self._wait_for_api(API_SECONDS)
        self.wait_ready()

    def shell(self, machine: str, *command: str) -> str:
        """Runs a command on a machine, in all its namespaces; what it printed."""
        return host.run(self.shell_command(machine, *command))

    def shell_command(self, machine: str, *command: str) -> tuple[str, ...]:
        """What runs a command on a machine. Raises Failed where it has no power, BadName."""
        self._powered(machine)
        return machines.entered(self.places, machine, *command)


def succeeds(command: tuple[str, ...]) -> bool:
    try:
        host.run(command)
    except host.Failed:
        return False
    return True
