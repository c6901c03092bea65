"""Load in a pod: one lock held throughout, puts and short locks without a pause; what it saw, as the report wants it.

An acknowledged write is one whose call returned. At the end every key is read again: a write that was acknowledged and
is not there is a lost one. Times are the load's own clock, in seconds since 1970.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

SECONDS_MAX: Final = 900
"""It ends by itself after so long."""
KEYS: Final = 50
"""Keys that puts go round; each holds the last number written to it."""
PROGRAM: Final = """
import asyncio, json, os, time
from lockmaster import TLS, AsyncClient, LockmasterError
KEYS, SECONDS_MAX = <keys>, <seconds>
async def main():
    puts, failures, lost, locks, last = [], [], [], 0, {}
    end = time.monotonic() + SECONDS_MAX
    def going():
        return time.monotonic() < end and not os.path.exists("/tmp/stop")
    tls = TLS("/tls/ca.crt", "/tls/tls.crt", "/tls/tls.key")
    async with AsyncClient("locks:7420", tls=tls) as client:
        app = client.config("app")
        held = await client.lock("orders/42").acquire(timeout=30)
        token = held.fencing_token
        print("holds", token, flush=True)
        async def put():
            number = 0
            while going():
                number += 1
                try:
                    await app.put("key-%d" % (number % KEYS), str(number).encode())
                    puts.append(time.time())
                    last[number % KEYS] = number
                except Exception as error:
                    failures.append(f"{time.time():.2f} put: {error!r}")
                await asyncio.sleep(0.01)
        async def lock():
            nonlocal locks
            while going():
                try:
                    async with client.lock("orders/7", timeout=30):
                        locks += 1
                except Exception as error:
                    failures.append(f"{time.time():.2f} lock: {error!r}")
                await asyncio.sleep(0.05)
        await asyncio.gather(put(), lock())
        same = held.valid and held.fencing_token == token
        try:
            await held.release()
        except LockmasterError:
            same = False  # without a quorum for longer than its TTL it is lost, and writes are still to be counted
        for key, number in last.items():
            found = int((await app.get("key-%d" % key)).value)
            # A put that failed may still have been carried out.
            if found < number:
                lost.append(f"key-{key}: {number} was acknowledged, {found} is there")
    for at in range(0, len(puts), 500):
        print("puts", json.dumps([round(one, 3) for one in puts[at:at + 500]]))
    told = {"held": same, "token": token, "locks": locks, "failures": failures, "lost": lost}
    print("done", json.dumps(told), flush=True)
asyncio.run(main())
""".replace("<keys>", str(KEYS)).replace("<seconds>", str(SECONDS_MAX))
"""Ends when /tmp/stop is there."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a load saw."""

    puts: tuple[float, ...]
    """When each put was acknowledged, ascending."""
    locks: int
    """Short locks taken and released."""
    failures: tuple[str, ...]
    lost: tuple[str, ...]
    held: bool
    """The long lock was held to the end, with the token of the beginning."""

    def gaps(self, begin: float = 0.0, end: float = float("inf")) -> tuple[float, ...]:
        """Seconds between acknowledged puts that follow each other, those that end within [begin, end)."""
        first = max(1, bisect_left(self.puts, begin))
        return tuple(b - a for a, b in zip(self.puts[first - 1 :], self.puts[first:]) if b < end)

    def worst(self, begin: float = 0.0, end: float = float("inf")) -> float:
        """The longest of them; 0.0 where there is none."""
        return max(self.gaps(begin, end), default=0.0)


def parsed(log: str) -> Seen:
    """A load's log, once it is done. Raises ValueError where it isn't."""
    puts: list[float] = []
    for line in log.splitlines():
        word, _, rest = line.partition(" ")
        if word == "puts":
            puts += json.loads(rest)
        elif word == "done":
            told = json.loads(rest)
            return Seen(tuple(puts), told["locks"], tuple(told["failures"]), tuple(told["lost"]), told["held"])
    raise ValueError("the load has not ended: " + log[-500:])


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed; 0.0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
