"""A load that goes on until its standard input is closed, and then writes when each operation ended and what it took.

    python -m benchmarks.consensus.load ENDPOINTS RECORD.json --ca FILE --clients 16 --pause-ms 20

Each task writes its own key, again and again. The clock is CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from lockmaster import TLS, AsyncClient
from lockmaster.cli.bench.command import loop_factory
from lockmaster.errors import LockmasterError

RETRY_SECONDS = 0.005


@dataclass(slots=True)
class Record:
    """What happened."""

    done: list[tuple[float, float]]
    """(when it ended, seconds it took) of each write that succeeded."""
    errors: list[str]


async def write_until_closed(client: AsyncClient, clients: int, pause: float) -> Record:
    """Writes by that many tasks until standard input ends."""
    record = Record([], [])
    stop = asyncio.Event()
    config = client.config("bench-load")

    async def work(number: int) -> None:
        while not stop.is_set():
            started = time.monotonic()
            try:
                await config.put(f"{number}", b"v" * 256)
            except LockmasterError as error:
                record.errors.append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(RETRY_SECONDS)
                continue
            ended = time.monotonic()
            record.done.append((ended, ended - started))
            if pause:
                await asyncio.sleep(pause)

    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stop.set)
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(work(number))
    return record


async def main(given: argparse.Namespace) -> Record:
    tls = TLS(given.ca, None, None) if given.ca else None
    async with AsyncClient(tuple(given.endpoints.split(",")), tls=tls, insecure=tls is None) as client:
        return await write_until_closed(client, given.clients, given.pause_ms / 1000)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("endpoints")
    parser.add_argument("record", type=Path)
    parser.add_argument("--ca", type=Path)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--pause-ms", type=float, default=0.0)
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse_arguments()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        found = runner.run(main(arguments))
    arguments.record.write_text(json.dumps({"done": found.done, "errors": found.errors}))
