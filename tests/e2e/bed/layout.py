"""What the bed is, decided from its settings alone: names, addresses, zones, directories. Pure: nothing is touched.

Every machine is a network namespace. One holds the control plane ("cp") and a bridge; each node hangs on that bridge
by one link, as on a switch. The host gets one link and two routes, so that a client on the host reaches the API
server, pods and Service addresses directly. All addresses lie in namespaces that the bed makes.

    .1 control plane and bridge   .11 .. .19 nodes n1 .. n9   .254 the host's end
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NODES_MAX = 9
"""Addresses and pod networks are numbered by one digit."""
CONTROL = "cp"
"""The machine of the control plane."""
CONTROL_PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "provisioner")
NODE_PROGRAMS = ("containerd", "kubelet", "kube-proxy")
NAME = re.compile(r"[a-z][a-z0-9]{0,7}")
"""Eight characters: the name is part of the name of a network link, which has 15 at most."""


class BadSetting(Exception):
    """A setting that the bed can't use; the text names the variable and what it takes."""


class BadName(Exception):
    """A machine or program that the bed doesn't have; the text names those it has."""


@dataclass(frozen=True, slots=True)
class Node:
    """One node: `number` from 1."""

    number: int
    address: str
    pod_network: str

    @property
    def name(self) -> str:
        return f"n{self.number}"

    @property
    def zone(self) -> str:
        return f"z{self.number}"


@dataclass(frozen=True, slots=True)
class Layout:
    """The whole bed. `network` holds three octets, `pods` and `services` two: "10.90.0", "10.244", "10.96"."""

    name: str
    nodes: tuple[Node, ...]
    network: str
    pods: str
    services: str

    @property
    def control_address(self) -> str:
        return f"{self.network}.1"

    @property
    def host_address(self) -> str:
        return f"{self.network}.254"

    @property
    def api_service_address(self) -> str:
        return f"{self.services}.0.1"

    @property
    def dns_address(self) -> str:
        return f"{self.services}.0.10"

    @property
    def pod_network(self) -> str:
        return f"{self.pods}.0.0/16"

    @property
    def service_network(self) -> str:
        return f"{self.services}.0.0/16"

    @property
    def host_link(self) -> str:
        """The name of the host's end of its one link."""
        return f"{self.name}-host"

    @property
    def machines(self) -> tuple[str, ...]:
        return (CONTROL, *(node.name for node in self.nodes))

    def namespace(self, machine: str) -> str:
        """The network namespace of a machine."""
        return f"{self.name}-{machine}"

    def node(self, name: str) -> Node:
        """The node of that name, or BadName."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise BadName(f"no node {name!r}: the bed has {', '.join(node.name for node in self.nodes)}")

    def address(self, machine: str) -> str:
        """The machine's address on the bridge, or BadName."""
        return self.control_address if machine == CONTROL else self.node(machine).address

    def networks_of(self, machine: str) -> tuple[str, ...]:
        """The sources from which a machine and its pods are heard."""
        if machine == CONTROL:
            return (self.control_address,)
        node = self.node(machine)
        return (node.address, node.pod_network)

    def programs_of(self, machine: str) -> tuple[str, ...]:
        """What runs on a machine, or BadName."""
        if machine == CONTROL:
            return CONTROL_PROGRAMS
        self.node(machine)
        return NODE_PROGRAMS


def octets(environment: Mapping[str, str], variable: str, default: str, count: int) -> str:
    """The first octets of a private network, or BadSetting."""
    text = environment.get(variable, default)
    try:
        address = ipaddress.IPv4Address(".".join([text, *["0"] * (4 - count)]))
    except ValueError:
        address = None
    if address is None or not address.is_private or address.is_loopback:
        raise BadSetting(f"{variable}={text!r}: the first {count} octets of a private IPv4 network, like {default}")
    return text


def layout_from(environment: Mapping[str, str]) -> Layout:
    """The bed that the LOCKMASTER_BED_* variables ask for (docs/testing-on-kubernetes.md). Raises BadSetting."""
    name = environment.get("LOCKMASTER_BED_NAME", "lmbed")
    if not NAME.fullmatch(name):
        raise BadSetting(f"LOCKMASTER_BED_NAME={name!r}: 1 to 8 of a-z and 0-9, a letter first")
    count = environment.get("LOCKMASTER_BED_NODES", "3")
    if not count.isdecimal() or not 1 <= int(count) <= NODES_MAX:
        raise BadSetting(f"LOCKMASTER_BED_NODES={count!r}: 1 to {NODES_MAX}")
    network = octets(environment, "LOCKMASTER_BED_NETWORK", "10.90.0", 3)
    pods = octets(environment, "LOCKMASTER_BED_PODS", "10.244", 2)
    services = octets(environment, "LOCKMASTER_BED_SERVICES", "10.96", 2)
    nodes = tuple(Node(i, f"{network}.{10 + i}", f"{pods}.{i}.0/24") for i in range(1, int(count) + 1))
    layout = Layout(name, nodes, network, pods, services)
    wanted = [f"{network}.0/24", layout.pod_network, layout.service_network]
    if clashes(wanted[1:], wanted[:1]) or pods == services:
        raise BadSetting("LOCKMASTER_BED_NETWORK, _PODS and _SERVICES overlap: they must be three networks")
    return layout


def clashes(wanted: list[str], routed: list[str]) -> list[str]:
    """Those of the routed networks that overlap a wanted one."""
    ours = [ipaddress.IPv4Network(text) for text in wanted]
    return [text for text in routed if any(ipaddress.IPv4Network(text).overlaps(own) for own in ours)]


def routed_networks(text: str) -> list[str]:
    """The networks in the output of `ip -4 route`, the default route left out."""
    firsts = [line.split()[0] for line in text.splitlines() if line.strip()]
    return [first for first in firsts if first[0].isdigit()]


@dataclass(frozen=True, slots=True)
class Places:
    """Where the bed keeps what lasts (`cache`) and what `make cluster-down` removes (`state`)."""

    cache: Path
    state: Path

    @property
    def kubeconfig(self) -> Path:
        """The administrator's, once the cluster is whole."""
        return self.state / "kubeconfig"

    @property
    def draft_kubeconfig(self) -> Path:
        """The same, from the first moment on: the bed's own."""
        return self.state / "kubeconfig.draft"

    def machine(self, name: str) -> Path:
        return self.state / "machines" / name


def places_from(environment: Mapping[str, str], name: str) -> Places:
    """The directories of the bed of that name, by the XDG rules. Raises BadSetting where HOME is needed and missing."""

    def base(own: str, xdg: str, *below_home: str) -> Path:
        if environment.get(own):
            return Path(environment[own]).absolute()
        if environment.get(xdg):
            return Path(environment[xdg]).absolute() / "lockmaster-bed"
        if not environment.get("HOME"):
            raise BadSetting(f"none of {own}, {xdg} and HOME is set: no place for the bed's files")
        return Path(environment["HOME"], *below_home, "lockmaster-bed").absolute()

    cache = base("LOCKMASTER_BED_CACHE", "XDG_CACHE_HOME", ".cache")
    state = base("LOCKMASTER_BED_STATE", "XDG_STATE_HOME", ".local", "state") / name
    for place in (cache, state):
        if place.is_relative_to("/run"):
            raise BadSetting(f"{place}: LOCKMASTER_BED_STATE and _CACHE can't lie below /run, which machines cover")
    return Places(cache, state)
