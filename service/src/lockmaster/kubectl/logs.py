"""All members' logs as one: by time where they have ended, as they come where they are followed."""

from __future__ import annotations

import heapq
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from lockmaster.cli.refusals import Refused
from lockmaster.kubectl.access import Api

BYTES_MAX: Final = 8 << 20
"""Of one member's log, at most."""
WAITING_MAX: Final = 1000
"""Lines that wait to be printed; the streams wait beyond that."""


def merged(api: Api, pods: Sequence[str], query: Mapping[str, str]) -> Iterator[str]:
    """`POD  line`, by the time stamps that the kubelet gave; a pod without a log says so in its place."""
    bounded = {**query, "limitBytes": str(BYTES_MAX)}
    return (line for _, line in heapq.merge(*(_stamped(api, pod, bounded) for pod in pods)))


def _stamped(api: Api, pod: str, query: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(time, line) in order; a line without a time has that of the one before."""
    stamp = ""
    try:
        for line in api.log_lines(pod, query):
            head, _, rest = line.partition(" ")
            stamp = max(stamp, head)
            yield stamp, f"{pod}  {rest}"
    except Refused as error:
        yield stamp, f"{pod}  ({error.format_message()})"


def followed(api: Api, pods: Sequence[str], query: Mapping[str, str]) -> Iterator[str]:
    """`POD  line` as they come, until every stream has ended."""
    waiting: queue.Queue[str | None] = queue.Queue(WAITING_MAX)

    def read(pod: str) -> None:
        try:
            for line in api.log_lines(pod, {**query, "follow": "true"}, timeout_s=None):
                waiting.put(f"{pod}  {line.partition(' ')[2]}")
        except Refused as error:
            waiting.put(f"{pod}  ({error.format_message()})")
        finally:
            waiting.put(None)

    for pod in pods:
        threading.Thread(target=read, args=(pod,), daemon=True).start()
    ended = 0
    while ended < len(pods):
        line = waiting.get()
        if line is None:
            ended += 1
        else:
            yield line
