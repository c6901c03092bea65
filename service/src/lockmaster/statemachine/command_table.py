"""The command table: every kind a log entry may carry. A new kind is one new module with COMMANDS, listed here."""

from __future__ import annotations

from typing import Any, Final

from lockmaster.statemachine import config, locks, sessions
from lockmaster.statemachine.table import Kind

KINDS: Final[tuple[Kind, ...]] = (*sessions.COMMANDS, *locks.COMMANDS, *config.COMMANDS)
BY_BYTE: Final[dict[int, Kind]] = {int(kind.kind): kind for kind in KINDS}
BY_TYPE: Final[dict[type[Any], Kind]] = {kind.operation: kind for kind in KINDS}
