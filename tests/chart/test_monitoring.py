"""Alerts and dashboard: valid PromQL, of metrics that the operator or a running member exports, each with a runbook."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from lockmaster import Client
from lockmaster_operator.host.metrics import Metrics
from lockmaster_operator.models.lock_cluster_status import LockClusterStatus
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "charts/lockmaster-operator/files"
START_SECONDS = 30
LAST = ("lockmaster_raft_commit_duration_seconds_bucket", "lockmaster_raft_peer_lag{")
"""What a member's page has only after its first write, and after its first look at itself."""


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FILES / "rules.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> list[str]:
    """Of every alert and every panel; a dashboard's variables as values."""
    panels = json.loads((FILES / "dashboards/lockmaster.json").read_text())["panels"]
    shown = [target["expr"].replace("$", "") for panel in panels for target in panel["targets"]]
    return [rule["expr"] for rule in rules()] + shown


def selectors(node: Any) -> Iterator[Any]:
    """The vector selectors below an expression."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
        return
    parts = [getattr(node, name, None) for name in ("lhs", "rhs", "expr", "vector_selector", "param")]
    for part in [*parts, *(getattr(node, "args", None) or [])]:
        if part is not None:
            yield from selectors(part)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Sample names of an operator and of a member that runs."""
    metrics = Metrics()
    metrics.tell(("ns", "locks"), LockClusterStatus(), hibernated=False)
    metrics.reconciled(0.1, "done")
    metrics.step("DeletePod", "done")
    pages = [metrics.page().decode(), member_page(tmp_path_factory.mktemp("member"))]
    families = [family for page in pages for family in text_string_to_metric_families(page)]
    names = {sample.name for family in families for sample in family.samples}
    return names | {family.name for family in families}


def member_page(folder: Path) -> str:
    """/metrics of one member that leads alone."""
    ports = [free_port() for _ in range(3)]
    client, peer, page = (f"127.0.0.1:{port}" for port in ports)
    command = [
        sys.executable, "-m", "lockmaster.cli.main", "serve", "--name", "a", "--data-dir", str(folder / "data"),
        "--bootstrap", "--full-min", "1", "--insecure", "--listen-client", client, "--advertise-client", client,
        "--listen-peer", peer, "--advertise-peer", peer, "--metrics-listen", page,
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            with Client(client, operation_timeout=START_SECONDS) as writer:
                writer.config("chart").put("key", b"value")
            return wait_for_page(page, process)
        finally:
            process.terminate()


def wait_for_page(address: str, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + START_SECONDS
    text = ""
    while time.monotonic() < deadline and process.poll() is None:
        try:
            text = urllib.request.urlopen(f"http://{address}/metrics", timeout=5).read().decode()
        except OSError:
            text = ""
        if all(name in text for name in LAST):
            return text
        time.sleep(0.1)
    raise AssertionError(f"no member's metrics within {START_SECONDS} s: {text[-300:]}")


@pytest.mark.parametrize("text", sorted(set(expressions())))
def test_every_expression_is_promql(text: str) -> None:
    assert list(selectors(promql_parser.parse(text)))


def test_every_metric_is_exported(exported: set[str]) -> None:
    named = {str(each.name) for text in expressions() for each in selectors(promql_parser.parse(text))}
    assert len(named) >= 15
    assert sorted(named - exported) == []


def test_every_alert_says_for_whom_how_bad_and_since_when() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["for"]
        assert rule["annotations"]["summary"].endswith((".", "(p99)."))


def test_every_condition_of_an_alert_is_one_that_the_operator_writes() -> None:
    source = "".join(path.read_text() for path in sorted((ROOT / "operator/src/lockmaster_operator/plan").glob("*.py")))
    for text in expressions():
        for name in re.findall(r'condition="(\w+)"', text):
            assert f'"{name}"' in source, text
