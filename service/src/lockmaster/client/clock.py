"""The one clock that validity is counted on: it goes on while the machine is suspended."""

from __future__ import annotations

import time

_CLOCK_ID = getattr(time, "CLOCK_BOOTTIME", None)


def suspend_clock() -> float:
    """Seconds on CLOCK_BOOTTIME (Linux), else on the platform's monotonic clock. Never a wall clock.

    A virtual machine that its hypervisor pauses stops this clock too: only the fencing token covers that.
    """
    if _CLOCK_ID is None:
        return time.monotonic()
    return time.clock_gettime(_CLOCK_ID)
