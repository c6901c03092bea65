"""One Engine in its own process, driven by lines on stdin, to be killed. Arguments: DIR ADDRESS NAME [PROFILE].

Commands, one per line, each answered by one line of JSON: bootstrap FULL_MIN | add NAME PEER_ADDRESS INCARNATION |
open | put KEY VALUE | get KEY | status | drive CALLERS SECONDS | acquire SESSION SEQ NAME | quit.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from lockmaster.errors import LockmasterError
from lockmaster.server.runtime import Engine
from lockmaster.server.status import EngineSettings
from lockmaster.statemachine.codec import command_digest
from lockmaster.statemachine.commands import Acquire, Command, Dedup, OpenSession, Put, Release, Result, ResultStatus
from lockmaster.statemachine.records import NONCES
from lockmaster_raft.config import RaftConfig


class Driven:
    """The engine and its commands."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def propose(self, command: Command) -> Result:
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

        def done(outcome: Result | LockmasterError) -> None:
            if isinstance(outcome, Result):
                future.set_result(outcome)
            else:
                future.set_exception(outcome)

        self.engine.propose(command, done)
        return await future

    async def run(self, words: list[str]) -> dict[str, object]:
        match words:
            case ["bootstrap", full_min]:
                cluster_id, member_id = await self.engine.bootstrap(int(full_min))
                return {"cluster_id": cluster_id.hex(), "member_id": member_id}
            case ["add", name, address, incarnation]:
                who = (name, address, address, bytes.fromhex(incarnation))
                return {"member_id": await self.engine.add_member(*who, level_max=self.engine.settings.level_max)}
            case ["remove", member_id]:
                await self.engine.remove_member(int(member_id))
                return {}
            case ["transfer"]:
                return {"leader": await self.engine.transfer()}
            case ["open"]:
                result = await self.propose(Command(OpenSession(b"n" * 16, 15_000_000_000, "p", "l", 0)))
                return {"status": result.status.name, "session": result.revision}
            case ["put", key, value]:
                put = Put("ns", key, value.encode(), None, "", 0, "author", "", 0)
                result = await self.propose(Command(put))
                return {"status": result.status.name, "revision": result.revision}
            case ["fill", count, size]:
                puts = [Put("ns", f"fill/{i}", b"x" * int(size), None, "", 0, "", "", 0) for i in range(int(count))]
                results = await asyncio.gather(*[self.propose(Command(put)) for put in puts])
                return {"done": len(results)}
            case ["step", count]:
                for _ in range(int(count)):
                    await self.propose(Command(Put("ns", "step", b"x", None, "", 0, "", "", 0)))
                return {}
            case ["diverge"]:
                self.engine.directory.state.put(NONCES, b"not in the log!!", 1)
                return {}
            case ["scrub"]:
                if (integrity := self.engine.integrity) is None:
                    raise LookupError("no node yet")
                await integrity.scrub()
                return {"scrubs": integrity.scrubs, "compared": integrity.compared}
            case ["acquire", session, seq, name]:
                acquire = Acquire(name, False, 0)
                dedup = Dedup(int(session), int(seq), int(seq), command_digest(acquire))
                result = await self.propose(Command(acquire, dedup))
                return {"status": result.status.name, "token": result.revision}
            case ["get", key]:
                future: asyncio.Future[LockmasterError | None] = asyncio.get_running_loop().create_future()
                self.engine.read_index(future.set_result)
                if (error := await future) is not None:
                    raise error
                item = self.engine.machine.get("ns", key)
                return {"value": None if item is None else item.value.decode()}
            case ["drive", callers, seconds]:
                return await drive(self.engine, int(callers), float(seconds))
            case ["snapshot"]:
                await self.engine.make_snapshot()
                return {}
            case ["status"]:
                s = self.engine.status()
                return {
                    "role": s.role,
                    "leader": s.leader_id,
                    "applied": s.applied_index,
                    "commit": s.commit_index,
                    "incarnation": s.incarnation.hex(),
                    "address": s.peer_address,
                    "hash": s.state_hash,
                    "voters": [m.member_id for m in s.members if m.voter],
                    "log_first": s.log_first_index,
                    "alarms": s.alarms,
                    "counters": s.counters,
                    "admits": self.engine.admits_writes,
                }
        raise ValueError(f"unknown command {words}")


class Caller:
    """One closed loop of acquire and release on its own lock, without tasks: the host's hot path alone."""

    def __init__(self, engine: Engine, session_id: int, name: str) -> None:
        self.engine, self.session_id, self.name = engine, session_id, name
        self.seq = 0
        self.started = 0.0
        self.waits: list[float] = []
        self.failures: list[object] = []
        self.running = True

    def acquire(self) -> None:
        self.seq += 1
        operation = Acquire(self.name, False, 0)
        dedup = Dedup(self.session_id, self.seq, self.seq, command_digest(operation))
        self.started = time.perf_counter()
        self.engine.propose(Command(operation, dedup), self.acquired)

    def acquired(self, outcome: Result | LockmasterError) -> None:
        self.waits.append(time.perf_counter() - self.started)
        if not isinstance(outcome, Result) or outcome.status is not ResultStatus.OK:
            self.failures.append(outcome)
            return
        self.seq += 1
        operation = Release(self.session_id, self.name, outcome.revision)
        dedup = Dedup(self.session_id, self.seq, self.seq, command_digest(operation))
        self.engine.propose(Command(operation, dedup), self.released, reserved=True)

    def released(self, outcome: Result | LockmasterError) -> None:
        if not isinstance(outcome, Result) or outcome.status is not ResultStatus.OK:
            self.failures.append(outcome)
        elif self.running:
            self.acquire()


async def drive(engine: Engine, count: int, seconds: float) -> dict[str, object]:
    """`count` callers for `seconds`; lock operations per second and acquire latencies."""
    driven = Driven(engine)
    openings = [Command(OpenSession(n.to_bytes(16, "big"), 60_000_000_000, "p", "l", 0)) for n in range(count)]
    opened = await asyncio.gather(*[driven.propose(command) for command in openings])
    callers = [Caller(engine, result.revision, f"lock/{number}") for number, result in enumerate(opened)]
    before = engine.status().counters
    started, cpu = time.perf_counter(), time.process_time()
    for caller in callers:
        caller.acquire()
    await asyncio.sleep(seconds)
    elapsed, cpu = time.perf_counter() - started, time.process_time() - cpu
    after = engine.status().counters
    for caller in callers:
        caller.running = False
    await asyncio.sleep(0.2)
    waits = sorted(wait for caller in callers for wait in caller.waits)
    counts = {k: after[k] - before.get(k, 0) for k in ("entries_applied", "operations_applied", "syncs")}
    return {
        "ops_per_s": round(counts["operations_applied"] / elapsed),
        "cpu_us_per_op": round(1e6 * cpu / max(1, counts["operations_applied"]), 1),
        "p50_ms": round(1000 * waits[len(waits) // 2], 2),
        "p99_ms": round(1000 * waits[len(waits) * 99 // 100], 2),
        "ops_per_entry": round(counts["operations_applied"] / max(1, counts["entries_applied"]), 1),
        "entries_per_s": round(counts["entries_applied"] / elapsed),
        "syncs_per_s": round(counts["syncs"] / elapsed),
        "sync_us": after["sync_average_ns"] // 1000,
        "failures": [str(f) for caller in callers for f in caller.failures][:3],
    }


async def main(directory: str, address: str, name: str, profile: str = "fast") -> None:
    """Serve stdin until it ends."""
    config = RaftConfig.fast() if profile == "fast" else RaftConfig()
    settings = EngineSettings(Path(directory), name, address, address, address, config)
    engine = Engine(settings)
    await engine.start()
    driven, loop = Driven(engine), asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print(json.dumps({"started": True}), flush=True)
    while line := (await reader.readline()).decode().split():
        if line == ["quit"]:
            break
        try:
            async with asyncio.timeout(60):
                answer = await driven.run(line)
        except (LockmasterError, TimeoutError) as error:
            answer = {"error": type(error).__name__, "text": str(error)}
        print(json.dumps(answer), flush=True)
    await engine.stop(transfer=False)


if __name__ == "__main__":
    import logging

    import uvloop

    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    uvloop.run(main(*sys.argv[1:5]))
