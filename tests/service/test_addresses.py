"""host:port, read in one place by server, client and command line."""

from __future__ import annotations

import pytest
from lockmaster.addresses import ADDRESS_BYTES_MAX, is_loopback, join_address, split_address
from lockmaster.client.endpoints import on_loopback, parse_endpoints

LONG = "h" * ADDRESS_BYTES_MAX + ":1"


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("[::1]:7420", ("::1", 7420)),
        ("host.example:1", ("host.example", 1)),
        ("127.0.0.1:65535", ("127.0.0.1", 65535)),
        ("h:0", ("h", 0)),
    ],
)
def test_address_is_split_and_joined(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts
    assert join_address(*parts) == address


@pytest.mark.parametrize(
    "address",
    ["nowhere", ":1", "h:", "h:x", "h:65536", "h:" + "9" * 5000, "::1:7420", "h:-1", "h:١", "a b:1", "h\n:1", LONG],
)
def test_what_is_no_address_is_said_to_be_none(address: str) -> None:
    with pytest.raises(ValueError, match=r"host:port|port|IPv6"):
        split_address(address)
    with pytest.raises(ValueError, match=r"host:port|port|IPv6"):
        parse_endpoints([address] if address != "nowhere" else ["nowhere:"])


def test_loopback_is_certain_or_not_at_all() -> None:
    assert [h for h in ("::1", "127.8.8.8", "localhost", "localhost.example", "10.0.0.1") if is_loopback(h)] == [
        "::1",
        "127.8.8.8",
        "localhost",
    ]
    assert on_loopback(["[::1]:1", "localhost:2"])
    assert not on_loopback(["127.0.0.1:1", "a:1"])


def test_an_endpoint_has_the_port_of_clients_unless_it_says_another() -> None:
    assert parse_endpoints("[::1], b,c:1") == ("[::1]:7420", "b:7420", "c:1")
    with pytest.raises(ValueError, match="port is 0"):
        parse_endpoints("a:0")
