"""Tests on a real Kubernetes. They run only when asked for (`make e2e`, or pytest -m e2e): they need root or a cluster.

The cluster is, in this order: the kubectl context that E2E_CONTEXT names, or the bed (tests/e2e/bed), which is brought
up where it isn't and left up. Where neither can be, every test is skipped by name with the line that says why.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .bed import host
from .bed.cluster import Bed
from .kubernetes import Context, Kubernetes, OnBed
from .product import SYSTEM, Product
from .report import Report

REPORT = pytest.StashKey[Report]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "e2e: on a real Kubernetes; run with -m e2e (make e2e-all)")
    config.addinivalue_line("markers", "scenario(name): one of the eight that `make e2e` runs, a row of its report")
    config.stash[REPORT] = Report()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        marker = item.get_closest_marker("scenario")
        if marker is not None:
            item.user_properties.append(("scenario", str(marker.args[0])))
    if "e2e" in str(config.option.markexpr):
        return
    for item in items:
        if item.get_closest_marker("e2e"):
            item.add_marker(pytest.mark.skip(reason="needs a Kubernetes: make e2e"))


class Rows:
    """Results and seconds of scenarios, into the report."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Setup, call and teardown count; the worst of the three results."""
        name = next((str(value) for key, value in report.user_properties if key == "scenario"), "")
        if not name or (report.skipped and report.when != "setup" and name not in self.report.results):
            return
        result, seconds = self.report.results.get(name, ("passed", 0.0))
        worst = report.outcome if result == "passed" else result
        self.report.results[name] = (worst, seconds + report.duration)


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.pluginmanager.register(Rows(session.config.stash[REPORT]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash[REPORT].lines()
    if lines and "e2e" in str(config.option.markexpr):
        terminalreporter.section("report")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """For figures and notes."""
    return request.config.stash[REPORT]


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


@pytest.fixture(scope="session")
def kubernetes(request: pytest.FixtureRequest) -> Kubernetes:
    """The user's context, or the bed."""
    name = os.environ.get("E2E_CONTEXT")
    if not name:
        return OnBed(request.getfixturevalue("bed"))
    try:
        return Context(name)
    except host.Cannot as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def operator(kubernetes: Kubernetes) -> Iterator[Product]:
    """The operator's chart, installed for the whole run."""
    one = Product(kubernetes, SYSTEM)
    try:
        one.install()
    except host.Cannot as error:
        pytest.skip(str(error))
    yield one
    one.remove()


@pytest.fixture(scope="module")
def no_operator(bed: Bed, operator: Product) -> Iterator[Bed]:
    """The bed with our custom resource definitions and without an operator: the tests of a module play it."""
    operator.uninstall()
    yield bed
    operator.install()


@pytest.fixture
def product(request: pytest.FixtureRequest, kubernetes: Kubernetes, operator: Product) -> Iterator[Product]:
    """The operator, and a namespace of this test's own."""
    name = request.function.__name__.removeprefix("test_").replace("_", "-")
    one = Product(kubernetes, f"e2e-{name}"[:60].rstrip("-"))
    one.begin()
    yield one
    one.end()


@pytest.fixture
def mended(bed: Bed) -> Iterator[Bed]:
    """The bed, and whatever a test breaks is undone after it."""
    yield bed
    bed.mend()
