"""Tests on a real Kubernetes. They run only when asked for (`make e2e`, or pytest -m e2e): they need root or a cluster.

The cluster is, in this order: the kubectl context that E2E_CONTEXT names, or the bed (tests/e2e/bed), which is brought
up where it isn't and left up. Where neither can be, every test is skipped by name with the line that says why.
"""

from __future__ import annotations

import os

import pytest

from .bed import host
from .bed.cluster import Bed


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "e2e: on a real Kubernetes; run with -m e2e (make e2e)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "e2e" in str(config.option.markexpr):
        return
    for item in items:
        if item.get_closest_marker("e2e"):
            item.add_marker(pytest.mark.skip(reason="needs a Kubernetes: make e2e"))


@pytest.fixture(scope="session")
def bed(request: pytest.FixtureRequest) -> Bed:
    """The bed, up and whole: for tests that cut power, links and programs. Skipped on a cluster of the user's."""
    why = ""
    # The first time it builds for a quarter of an hour: its progress lines are for whoever waits.
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        if os.environ.get("E2E_CONTEXT"):
            why = "power and links are cut only on a cluster of our own: unset E2E_CONTEXT"
        else:
            try:
                bed = Bed.of()
                bed.up()
            except host.Cannot as error:
                why = str(error)
        if why:
            host.say(why)
    if why:
        pytest.skip(why)
    return bed
