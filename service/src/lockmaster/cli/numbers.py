"""Numbers on the command line that go on the wire: signed 64 bits there, so nothing above 2^63-1 is taken."""

from __future__ import annotations

from typing import Final

import click

NUMBER_MAX: Final = (1 << 63) - 1
POSITION: Final = click.IntRange(0, NUMBER_MAX)
"""An epoch, or an index: 0 is one."""
TERM: Final = click.IntRange(1, NUMBER_MAX)
