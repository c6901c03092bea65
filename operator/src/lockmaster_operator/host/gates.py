"""Asks the gates of a canary: a Prometheus query, or a user's probe. Each has a deadline and a bound on its answer."""

from __future__ import annotations

import json
from typing import Any, Final

import aiohttp

from lockmaster_operator.kinds.config_sets import GateAnswer
from lockmaster_operator.models.config_set import Gate, HttpGate, PrometheusGate
from lockmaster_operator.models.part import seconds_of

PROMETHEUS_SECONDS: Final = 10.0
PROBE_SECONDS_MAX: Final = 30.0
ANSWER_BYTES_MAX: Final = 1 << 20


async def ask(session: aiohttp.ClientSession, gate: Gate) -> GateAnswer:
    """Whether the gate holds. Never raises for what the other side does."""
    if gate.prometheus is not None:
        return await _prometheus(session, gate.name, gate.prometheus)
    if gate.http is not None:
        return await _probe(session, gate.name, gate.http)
    return GateAnswer(gate.name, None, "it is neither prometheus nor http")


async def _prometheus(session: aiohttp.ClientSession, name: str, gate: PrometheusGate) -> GateAnswer:
    """Only an answer counts: a Prometheus that is away says nothing about the clients, so the step waits for it."""
    timeout = aiohttp.ClientTimeout(total=PROMETHEUS_SECONDS)
    url = f"{gate.url.rstrip('/')}/api/v1/query"
    try:
        async with session.get(url, params={"query": gate.query}, timeout=timeout, allow_redirects=False) as answer:
            text = await answer.content.read(ANSWER_BYTES_MAX)
            if answer.status >= 500:
                return GateAnswer(name, None, f"Prometheus answers {answer.status}")
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return GateAnswer(name, None, f"Prometheus does not answer: {error or type(error).__name__}")
    number = number_in(text)
    if number is None:
        return GateAnswer(name, False, "the query gave no single number")
    if not number <= float(gate.max):  # NaN fails, too
        return GateAnswer(name, False, f"{number:g} is above {gate.max}")
    return GateAnswer(name, True, f"{number:g}")


def number_in(text: bytes) -> float | None:
    """The one number of an answer of Prometheus' query API; None if there is none, or more than one."""
    try:
        found: dict[str, Any] = json.loads(text)
        if found["status"] != "success":
            return None
        kind, result = found["data"]["resultType"], found["data"]["result"]
        if kind == "vector" and len(result) == 1:
            return float(result[0]["value"][1])
        return float(result[1]) if kind == "scalar" else None
    except (ValueError, KeyError, TypeError, IndexError):
        return None


async def _probe(session: aiohttp.ClientSession, name: str, gate: HttpGate) -> GateAnswer:
    timeout = aiohttp.ClientTimeout(total=min(max(seconds_of(gate.timeout), 0.1), PROBE_SECONDS_MAX))
    try:
        async with session.get(gate.url, timeout=timeout, allow_redirects=False) as answer:
            return GateAnswer(name, 200 <= answer.status < 300, f"the probe answers {answer.status}")
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return GateAnswer(name, False, f"the probe does not answer: {error or type(error).__name__}")
