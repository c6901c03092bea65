"""The bed's network as commands, and its faults: pure lists, which host.run executes in order.

The nodes' pods are reached by static routes, without masquerading: pods see real addresses, also of the host.
"""

from __future__ import annotations

from .layout import CONTROL, BadName, Layout, Node

Command = tuple[str, ...]
FAULTS_TABLE = "bed_faults"


def words(text: str) -> Command:
    return tuple(text.split())


def inside(layout: Layout, machine: str, text: str) -> Command:
    """A command in the machine's network namespace; `nsenter`, since `ip netns exec` would hide the cgroup mounts."""
    return ("nsenter", f"--net=/run/netns/{layout.namespace(machine)}", *text.split())


def sysctl(layout: Layout, machine: str, *settings: str) -> Command:
    return inside(layout, machine, f"sysctl -q -w {' '.join(settings)}")


def hardware(address: str) -> str:
    """A link address for an IPv4 address, the same at every boot: neighbours remember it, as of a network card.

    Left to the kernel, a bridge takes the lowest of its ports', so that a node's boot would make everybody's memory
    of the control plane wrong, for up to half a minute.
    """
    return ":".join(["02", "00", *(f"{int(octet):02x}" for octet in address.split("."))])


def control_up(layout: Layout) -> list[Command]:
    """The control plane's namespace with the bridge, and the host's link and routes."""
    space = layout.namespace(CONTROL)
    return [
        words(f"ip netns add {space}"),
        words(f"ip -n {space} link set lo up"),
        words(f"ip -n {space} link add br0 address {hardware(layout.control_address)} type bridge"),
        words(f"ip -n {space} address add {layout.control_address}/24 dev br0"),
        words(f"ip -n {space} link set br0 up"),
        # Frames between nodes only pass the bridge: the control plane's kube-proxy must not see them.
        sysctl(layout, CONTROL, "net.ipv4.ip_forward=1", "net.bridge.bridge-nf-call-iptables=0"),
        words(f"ip link add {layout.host_link} type veth peer name host netns {space}"),
        words(f"ip -n {space} link set host master br0 up"),
        words(f"ip address add {layout.host_address}/24 dev {layout.host_link}"),
        words(f"ip link set {layout.host_link} up"),
        words(f"ip route add {layout.pod_network} via {layout.control_address}"),
        words(f"ip route add {layout.service_network} via {layout.control_address}"),
    ]


def node_up(layout: Layout, node: Node) -> list[Command]:
    """A node's namespace, its link to the bridge, and the routes in both directions."""
    control, space, mac = layout.namespace(CONTROL), layout.namespace(node.name), hardware(node.address)
    commands = [
        words(f"ip netns add {space}"),
        words(f"ip -n {space} link set lo up"),
        words(f"ip -n {control} link add {node.name} type veth peer name eth0 address {mac} netns {space}"),
        words(f"ip -n {control} link set {node.name} master br0 up"),
        words(f"ip -n {space} address add {node.address}/24 dev eth0"),
        words(f"ip -n {space} link set eth0 up"),
        words(f"ip -n {space} route add default via {layout.control_address}"),
        # A pod that asks a Service on its own node's bridge is translated only with this.
        sysctl(layout, node.name, "net.ipv4.ip_forward=1", "net.bridge.bridge-nf-call-iptables=1"),
        words(f"ip -n {control} route replace {node.pod_network} via {node.address}"),
    ]
    for other in layout.nodes:
        if other != node:
            commands.append(words(f"ip -n {space} route add {other.pod_network} via {other.address}"))
    return commands


def node_down(layout: Layout, node: Node) -> list[Command]:
    """The node's namespace goes, and with it both ends of its link."""
    return [words(f"ip netns delete {layout.namespace(node.name)}")]


def cable(layout: Layout, node: Node, plugged: bool) -> list[Command]:
    """The node's port on the bridge, up or down."""
    return [words(f"ip -n {layout.namespace(CONTROL)} link set {node.name} {'up' if plugged else 'down'}")]


def cut(layout: Layout, deaf: str, mute: str) -> list[Command]:
    """From now on `deaf` hears nothing of `mute`, nor of its pods: one direction. Cutting twice is no error."""
    sources = ", ".join(layout.networks_of(mute))
    rule = f"nft add rule inet {FAULTS_TABLE} {chain_of(mute)} ip saddr {{ {sources} }} drop"
    return [*heal(layout, deaf, mute), inside(layout, deaf, rule)]


def heal(layout: Layout, deaf: str, mute: str) -> list[Command]:
    """`deaf` hears `mute` again. Healing what was never cut is no error."""
    chain = f"inet {FAULTS_TABLE} {chain_of(mute)}"
    return [
        inside(layout, deaf, f"nft add table inet {FAULTS_TABLE}"),
        inside(layout, deaf, f"nft add chain {chain} {{ type filter hook prerouting priority raw; }}"),
        inside(layout, deaf, f"nft flush chain {chain}"),
    ]


def heal_all(layout: Layout, deaf: str) -> list[Command]:
    """`deaf` hears everybody again."""
    table = f"inet {FAULTS_TABLE}"
    return [inside(layout, deaf, f"nft add table {table}"), inside(layout, deaf, f"nft delete table {table}")]


def chain_of(mute: str) -> str:
    return f"from_{mute}"


def cut_pairs(first: str, second: str, one_way: bool) -> list[tuple[str, str]]:
    """The directions of a cut as (deaf, mute); one way: only `first` no longer hears `second`. Raises BadName."""
    if first == second:
        raise BadName(f"{first} has no link to itself: two machines are wanted")
    return [(first, second)] if one_way else [(first, second), (second, first)]
