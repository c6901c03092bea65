"""`status`: what the members say about themselves, and the list of them that other commands look at."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import click
import grpc

from lockmaster.api import admin_pb2, admin_pb2_grpc
from lockmaster.cli.connection import Target, connection_options
from lockmaster.cli.exit_codes import OK, UNAVAILABLE
from lockmaster.cli.output import complain, duration, output_option, print_json, print_rows
from lockmaster.client.failures import error_of_rpc
from lockmaster.errors import LockmasterError, Unavailable

STATUS_COLUMNS = {
    "endpoint": "ENDPOINT", "name": "NAME", "role": "ROLE", "term": "TERM", "leader": "LEADER",
    "applied_index": "APPLIED", "lag": "BEHIND", "sessions": "SESSIONS", "version": "VERSION", "uptime": "UP",
    "alarms": "ALARMS",
}  # fmt: skip


@click.command()
@output_option
@connection_options
def status(target: Target, output: str) -> int:
    """Ask every endpoint for its role, term, progress and alarms.

    Exit code 69 if no member answers or none of those that do knows a leader.
    """
    rows = status_rows(target)
    newest = max((row.get("commit_index", 0) for row in rows), default=0)
    for row in rows:
        # What has no state to serve is as far as the log it knows to be committed.
        reached = row.get("applied_index" if row.get("serves_state") else "commit_index")
        row["lag"] = newest - reached if reached is not None else ""
    if output == "json":
        print_json(rows)
    else:
        print_rows([row for row in rows if "error" not in row], STATUS_COLUMNS, output, empty="no member answered")
    for row in rows:
        if "error" in row:
            complain(f"{row['endpoint']}: {row['error']}")
    if any(row.get("leader") for row in rows):
        return OK
    complain("no member knows a leader: are most of the members up? their logs say why")
    return UNAVAILABLE


def status_rows(target: Target) -> list[dict[str, Any]]:
    """Every endpoint's answer, or its error; all are asked at once."""
    with contextlib.ExitStack() as stack:
        asked = []
        for endpoint in target.endpoints:
            stub = admin_pb2_grpc.AdminStub(stack.enter_context(target.channel(endpoint)))
            asked.append((endpoint, stub.Status.future(admin_pb2.StatusRequest(), timeout=target.timeout)))
        return [status_row(target, endpoint, answer) for endpoint, answer in asked]


def status_row(target: Target, endpoint: str, asked: Any) -> dict[str, Any]:
    """One member's answer, or its error."""
    try:
        answer: admin_pb2.StatusResponse = asked.result()
    except grpc.RpcError as error:
        return {"endpoint": endpoint, "error": str(why_not_read(error, target))}
    return {
        "endpoint": endpoint,
        "name": answer.name,
        "member_id": answer.member_id,
        "cluster_id": answer.cluster_id.hex(),
        "role": answer.role,
        "member_role": answer.member_role,
        "phase": answer.phase,
        "serves_state": answer.serves_state,
        "caretaker": answer.caretaker,
        "promotion": answer.promotion,
        "term": answer.term,
        "leader": answer.leader.address,
        "commit_index": answer.commit_index,
        "applied_index": answer.applied_index,
        "last_index": answer.last_index,
        "log_first_index": answer.log_first_index,
        "durable_index": answer.durable_index,
        "flushed_index": answer.flushed_index,
        "revision": answer.revision,
        "state_hash": f"{answer.state_hash:016x}",
        "sessions": answer.sessions,
        "watches": answer.watches,
        "streams": answer.streams,
        "free_bytes": answer.free_bytes,
        "log_bytes": answer.log_bytes,
        "copy_bytes": answer.copy_bytes,
        "log_bytes_max": answer.log_bytes_max,
        "version": answer.version,
        "level_active": answer.level_active,
        "level_fence": answer.level_fence,
        "level_max": answer.level_max,
        "level_floor": answer.level_floor,
        "uptime_ms": answer.uptime_ms,
        "uptime": duration(answer.uptime_ms),
        "alarms": ", ".join(answer.alarms),
    }


def why_not_read(error: grpc.RpcError, target: Target) -> LockmasterError:
    """Why a read was not answered; one that took too long has done nothing either."""
    if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unavailable(f"no answer within {target.timeout:g} s")
    return error_of_rpc(error)


class Walk:
    """The members to ask, one after the other: the endpoints given, and before the next of them whoever is named."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._waiting = list(target.endpoints)
        self._asked = set[str]()

    def __iter__(self) -> Iterator[admin_pb2_grpc.AdminStub]:
        while self._waiting:  # ends: each address is asked once, and a member names one other at most
            endpoint = self._waiting.pop(0)
            if endpoint in self._asked:
                continue
            self._asked.add(endpoint)
            with self._target.channel(endpoint) as channel:
                yield admin_pb2_grpc.AdminStub(channel)

    def turn_to(self, address: str) -> bool:
        """Ask there next; False if that is nobody, or was asked already."""
        address = self._target.dialled(address)
        if not address or address in self._asked:
            return False
        self._waiting.insert(0, address)
        return True


def list_members(target: Target) -> admin_pb2.ListMembersResponse:
    """The member list from the leader, else from any member that answers. Raises the last error if none does."""
    last: LockmasterError = Unavailable("no member answered")
    answer: admin_pb2.ListMembersResponse | None = None
    walk = Walk(target)
    for stub in walk:
        try:
            answer = stub.ListMembers(admin_pb2.ListMembersRequest(), timeout=target.timeout)
        except grpc.RpcError as error:
            last = why_not_read(error, target)
            continue
        if not walk.turn_to(next((member.client_address for member in answer.members if member.leader), "")):
            break
    if answer is None:
        raise last
    return answer
