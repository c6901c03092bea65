"""The bed's names and addresses, decided from its settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from .layout import BadName, BadSetting, Layout, clashes, layout_from, places_from, routed_networks


def test_without_settings_there_are_three_nodes_in_three_zones() -> None:
    layout = layout_from({})
    assert [(n.name, n.zone, n.address, n.pod_network) for n in layout.nodes] == [
        ("n1", "z1", "10.90.0.11", "10.244.1.0/24"),
        ("n2", "z2", "10.90.0.12", "10.244.2.0/24"),
        ("n3", "z3", "10.90.0.13", "10.244.3.0/24"),
    ]
    assert layout.machines == ("cp", "n1", "n2", "n3")


def test_a_second_bed_has_its_own_name_and_networks() -> None:
    settings = {
        "LOCKMASTER_BED_NAME": "other",
        "LOCKMASTER_BED_NODES": "1",
        "LOCKMASTER_BED_NETWORK": "10.91.0",
        "LOCKMASTER_BED_PODS": "10.245",
        "LOCKMASTER_BED_SERVICES": "10.97",
    }
    layout = layout_from(settings)
    assert layout.namespace("cp") == "other-cp"
    assert layout.address("n1") == "10.91.0.11"
    assert (layout.pod_network, layout.dns_address) == ("10.245.0.0/16", "10.97.0.10")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("NAME", "Bed"),
        ("NAME", "ninechars"),
        ("NAME", "a-b"),
        ("NODES", "0"),
        ("NODES", "10"),
        ("NODES", "three"),
        ("NETWORK", "10.90"),
        ("NETWORK", "8.8.8"),
        ("NETWORK", "127.0.0"),
        ("PODS", "10.300"),
        ("PODS", "10.96"),
        ("SERVICES", "10.90"),
    ],
)
def test_a_bad_setting_is_refused_by_its_name(variable: str, value: str) -> None:
    with pytest.raises(BadSetting, match="LOCKMASTER_BED"):
        layout_from({f"LOCKMASTER_BED_{variable}": value})


def test_the_longest_name_still_fits_a_link() -> None:
    assert len(layout_from({"LOCKMASTER_BED_NAME": "a2345678"}).host_link) <= 15


def test_an_unknown_node_is_named_with_those_there_are() -> None:
    with pytest.raises(BadName, match="n1, n2, n3"):
        layout_from({}).node("n4")


def test_a_machine_is_heard_by_its_own_and_its_pods_addresses() -> None:
    layout: Layout = layout_from({})
    assert layout.networks_of("n2") == ("10.90.0.12", "10.244.2.0/24")
    assert layout.networks_of("cp") == ("10.90.0.1",)


def test_the_hosts_routes_are_compared_with_the_beds() -> None:
    routes = "default via 192.0.2.1 dev eth0 \n10.0.0.0/8 via 192.0.2.7 dev eth0 \n10.96.0.5 dev x scope link\n"
    assert routed_networks(routes) == ["10.0.0.0/8", "10.96.0.5"]
    assert clashes(["10.96.0.0/16"], routed_networks(routes)) == ["10.0.0.0/8", "10.96.0.5"]
    assert clashes(["10.97.0.0/16"], ["10.96.0.0/16", "172.17.0.0/16"]) == []


def test_places_follow_the_xdg_rules() -> None:
    home = places_from({"HOME": "/h"}, "bed")
    assert (home.cache, home.state) == (Path("/h/.cache/lockmaster-bed"), Path("/h/.local/state/lockmaster-bed/bed"))
    xdg = places_from({"XDG_CACHE_HOME": "/c", "XDG_STATE_HOME": "/s"}, "bed")
    assert (xdg.cache, xdg.state) == (Path("/c/lockmaster-bed"), Path("/s/lockmaster-bed/bed"))
    own = places_from({"LOCKMASTER_BED_CACHE": "/x", "LOCKMASTER_BED_STATE": "/y", "HOME": "/h"}, "bed")
    assert (own.cache, own.state) == (Path("/x"), Path("/y/bed"))


def test_without_any_place_the_variables_are_named() -> None:
    with pytest.raises(BadSetting, match="LOCKMASTER_BED_CACHE, XDG_CACHE_HOME and HOME"):
        places_from({}, "bed")


def test_state_below_run_is_refused_since_machines_cover_it() -> None:
    with pytest.raises(BadSetting, match="LOCKMASTER_BED_STATE"):
        places_from({"HOME": "/h", "LOCKMASTER_BED_STATE": "/run/x"}, "bed")
