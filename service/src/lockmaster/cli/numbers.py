"""Numbers on the command line: what goes on the wire is a signed 64-bit integer there, and no time is NaN."""

from __future__ import annotations

import math
from typing import Any, Final

import click

NUMBER_MAX: Final = (1 << 63) - 1
POSITION: Final = click.IntRange(0, NUMBER_MAX)
"""An epoch, a revision or an index: 0 is one."""
TERM: Final = click.IntRange(1, NUMBER_MAX)
"""A term, an id or a count: 0 is none."""
LEVEL_LIMIT: Final = 65_535
DAY_SECONDS: Final = 86_400.0
"""The longest time that the server lets anything wait or live."""


class Seconds(click.FloatRange):
    """A time; click's own range lets NaN pass, which is neither below nor above anything."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click does. A usage error names the option and the range."""
        found = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value} is not in the range {self._describe_range()}.", param, ctx)
        return found
