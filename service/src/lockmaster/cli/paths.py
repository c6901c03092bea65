"""Files that a command is to write: whether there can be one, before any work begins."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click


class FileToWrite(click.Path):
    """A file in a folder that is there and may be written to; the command gets a Path."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click does. A usage error names the option and the path."""
        found = Path(os.fsdecode(super().convert(value, param, ctx)))
        folder = found.parent
        if not folder.exists():
            self.fail(f"{found}: there is no folder {folder}; make it first.", param, ctx)
        if not folder.is_dir():
            self.fail(f"{found}: {folder} is no folder.", param, ctx)
        if not os.access(folder, os.W_OK | os.X_OK):
            self.fail(f"{found}: you may not write into {folder}.", param, ctx)
        return found
