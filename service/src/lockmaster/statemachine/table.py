"""How a command kind registers: one Kind row in its module's COMMANDS; command_table.py lists the modules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lockmaster.statemachine.commands import Command, CommandKind, Dedup, Event, Result
from lockmaster.statemachine.expiry import ExpiryIndex
from lockmaster.statemachine.limits import Limits
from lockmaster.statemachine.records import Window
from lockmaster.statemachine.view import StateView
from lockmaster.statemachine.wire import Reader

__all__ = ["Command", "Context", "Kind"]


@dataclass(slots=True)
class Context:
    """What executing a command may read and change, besides records. One for the life of a StateMachine."""

    view: StateView
    expiry: ExpiryIndex
    limits: Limits
    revision: int
    cluster_time: int
    lift_stamp: int
    sessions_count: int
    events: list[Event] = field(default_factory=list)
    window: Window | None = None
    """The window that the running command's dedup header opened, of session `window_id`; put after the command."""
    window_id: int = 0
    pods_mark: int = field(init=False)
    """Id of the session that a pod's token opened last; until then, the revision at which this process began. No record
    and in no hash."""

    def __post_init__(self) -> None:
        self.pods_mark = self.revision

    def next_revision(self) -> int:
        """Take a revision."""
        self.revision += 1
        return self.revision


@dataclass(frozen=True, slots=True)
class Kind:
    """A row of the command table. `execute` returns the answer and never raises on a command that decodes."""

    kind: CommandKind
    operation: type[Any]
    encode: Callable[[Any], bytes]
    """Operation -> its body."""
    decode: Callable[[Reader], Any]
    """Body -> operation; raises InvalidEntry. The caller checks that nothing is left."""
    execute: Callable[[Context, Any, Dedup | None], Result]
    deduplicated: bool = True
    """False: the leader's own kinds, which carry no header; with one they are INVALID."""
