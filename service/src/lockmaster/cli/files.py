"""Files that a command will write: where that can't be, it is said before any work begins."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click


class NewFile(click.Path):
    """A path to write to, in a folder that is there and may be written to. A usage error names option and folder."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click does."""
        found = Path(os.fsdecode(super().convert(value, param, ctx)))
        folder = found.parent
        if not folder.is_dir():
            self.fail(f"there is no folder {folder}", param, ctx)
        if not os.access(folder, os.W_OK | os.X_OK):
            self.fail(f"the folder {folder} may not be written to", param, ctx)
        return found
