"""The bed's network and its faults, as the commands they are."""

from __future__ import annotations

import pytest

from . import network
from .layout import BadName, layout_from

LAYOUT = layout_from({})


def shown(commands: list[network.Command]) -> list[str]:
    return [" ".join(command) for command in commands]


def test_the_host_gets_one_link_and_two_routes_and_nothing_else() -> None:
    on_host = [
        line for line in shown(network.control_up(LAYOUT)) if not line.startswith(("nsenter", "ip -n ", "ip netns"))
    ]
    assert on_host == [
        "ip link add lmbed-host type veth peer name host netns lmbed-cp",
        "ip address add 10.90.0.254/24 dev lmbed-host",
        "ip link set lmbed-host up",
        "ip route add 10.244.0.0/16 via 10.90.0.1",
        "ip route add 10.96.0.0/16 via 10.90.0.1",
    ]


def test_a_node_reaches_the_pods_of_every_other_and_the_control_plane_its() -> None:
    lines = shown(network.node_up(LAYOUT, LAYOUT.node("n2")))
    assert [line for line in lines if "route" in line] == [
        "ip -n lmbed-n2 route add default via 10.90.0.1",
        "ip -n lmbed-cp route replace 10.244.2.0/24 via 10.90.0.12",
        "ip -n lmbed-n2 route add 10.244.1.0/24 via 10.90.0.11",
        "ip -n lmbed-n2 route add 10.244.3.0/24 via 10.90.0.13",
    ]


def test_no_command_of_a_node_touches_the_host() -> None:
    lines = shown(network.node_up(LAYOUT, LAYOUT.node("n1")) + network.node_down(LAYOUT, LAYOUT.node("n1")))
    inside = ("ip netns add lmbed-", "ip netns delete lmbed-", "ip -n lmbed-", "nsenter --net=/run/netns/lmbed-")
    assert [line for line in lines if not line.startswith(inside)] == []


def test_a_cut_drops_what_comes_from_the_other_and_its_pods_in_one_namespace() -> None:
    lines = shown(network.cut(LAYOUT, "n1", "n2"))
    assert all(line.startswith("nsenter --net=/run/netns/lmbed-n1 nft ") for line in lines)
    assert lines[-1].endswith("add rule inet bed_faults from_n2 ip saddr { 10.90.0.12, 10.244.2.0/24 } drop")


def test_cutting_twice_leaves_one_rule() -> None:
    lines = shown(network.cut(LAYOUT, "n1", "cp"))
    assert lines.index(next(line for line in lines if "flush chain" in line)) < len(lines) - 1


def test_healing_takes_the_rules_of_one_pair_only() -> None:
    lines = shown(network.heal(LAYOUT, "n1", "n2"))
    assert lines[-1].endswith("flush chain inet bed_faults from_n2")


def test_a_cut_is_two_ways_unless_asked_otherwise() -> None:
    assert network.cut_pairs("n1", "cp", one_way=False) == [("n1", "cp"), ("cp", "n1")]
    assert network.cut_pairs("n1", "cp", one_way=True) == [("n1", "cp")]


def test_a_cable_is_the_nodes_port_on_the_bridge() -> None:
    node = LAYOUT.node("n3")
    assert shown(network.cable(LAYOUT, node, plugged=False)) == ["ip -n lmbed-cp link set n3 down"]
    assert shown(network.cable(LAYOUT, node, plugged=True)) == ["ip -n lmbed-cp link set n3 up"]


def test_a_machine_has_no_link_to_itself() -> None:
    with pytest.raises(BadName, match="n1 has no link to itself"):
        network.cut_pairs("n1", "n1", one_way=True)


def test_a_booted_node_and_the_control_plane_keep_the_link_address_that_others_remember() -> None:
    bridge = [line for line in shown(network.control_up(LAYOUT)) if "type bridge" in line]
    assert bridge == ["ip -n lmbed-cp link add br0 address 02:00:0a:5a:00:01 type bridge"]
    first, second = (shown(network.node_up(LAYOUT, LAYOUT.node("n2"))) for _ in range(2))
    assert first == second
    assert any(line.endswith("peer name eth0 address 02:00:0a:5a:00:0c netns lmbed-n2") for line in first)
