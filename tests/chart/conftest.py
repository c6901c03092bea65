"""The option that writes the charts' snapshots anew."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-charts", action="store_true", help="write the charts' snapshots anew")
