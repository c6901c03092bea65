"""`members`: who is in the cluster, and the changes of that. Every change is a compare-and-set if it names an epoch.

No session is opened: a cluster that admits no writes, because too few full members are there, is mended with these.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import click
import grpc
from google.protobuf.message import Message

from lockmaster.addresses import split_address
from lockmaster.api import admin_pb2, admin_pb2_grpc
from lockmaster.cli.cluster import Walk, list_members, why_not_read
from lockmaster.cli.connection import Target, connection_options
from lockmaster.cli.exit_codes import CONFLICT, NOT_FOUND, USAGE
from lockmaster.cli.numbers import NUMBER_MAX, POSITION, TERM, Seconds
from lockmaster.cli.output import Row, output_option, print_json, print_rows, stdout
from lockmaster.cli.refusals import Refused
from lockmaster.cli.repeating import idempotency_key_option
from lockmaster.client.failures import error_of_rpc
from lockmaster.errors import LockmasterError, NotLeader, Unavailable

COLUMNS: Final = {
    "member_id": "ID", "name": "NAME", "role": "ROLE", "phase": "PHASE", "leader": "LEADER", "reachable": "REACHABLE",
    "lag_entries": "BEHIND", "levels": "LEVELS", "client_address": "CLIENTS", "peer_address": "PEERS",
}  # fmt: skip
ROLES: Final = {"full": admin_pb2.MEMBER_ROLE_FULL, "witness": admin_pb2.MEMBER_ROLE_WITNESS}
POLL_SECONDS: Final = 0.1
RETRY_SECONDS: Final = 2.0
"""How long a change is asked for again where no member could take it."""
WAIT_HELP: Final = "Wait so long for the change to be complete, else only until it has begun."

Complete = Callable[[admin_pb2.MemberInfo | None], bool]
Terms = dict[str, Any]
"""The fields that every change has besides what it is about."""


class ListingGroup(click.Group):
    """Without the name of one of its commands it is `list`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `list` in front of options that are no command of its own."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=ListingGroup)
def members() -> None:
    """List the members of the cluster, or change who they are and what they do.

    MEMBER is an id or a name as `members list` shows them. A change that a precondition forbids is refused (exit code
    4) naming the member and the number in the way. To repeat a change that has happened is no error.
    """


@members.command("list")
@output_option
@connection_options
def list_command(target: Target, output: str) -> None:
    """List the members with role, phase, lag and levels, as the leader sees them."""
    listed = list_members(target)
    rows: list[Row] = [_row(member) for member in listed.members]
    print_rows(rows, COLUMNS, output, empty="the cluster has no members")
    if listed.reduced_commit and output != "json":
        stdout.print("half of the voters commits (reduced-commit is on)")


def _row(member: admin_pb2.MemberInfo) -> dict[str, Any]:
    return {
        "member_id": member.member_id,
        "name": member.name,
        "role": f"{member.member_role or 'full'} {'voter' if member.voter else 'learner'}",
        "phase": member.phase,
        "leader": member.leader,
        "reachable": member.reachable or member.leader,
        "lag_entries": member.lag_entries,
        "match_index": member.match_index,
        "level_min": member.level_min,
        "level_max": member.level_max,
        "levels": f"{member.level_min} to {member.level_max}" if member.level_max else "not reported",
        "client_address": member.client_address,
        "peer_address": member.peer_address,
        "incarnation": member.incarnation.hex(),
    }


# ---- the changes -----------------------------------------------------------------------------------------------------


def _change_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --expected-epoch, --idempotency-key (the command gets both as `terms`) and how to reach the cluster."""

    @click.option(
        "--expected-epoch",
        type=POSITION,
        help="Refuse if the configuration's epoch is another one.",
    )
    @functools.wraps(command)
    def with_terms(expected_epoch: int | None, idempotency_key: str, **others: Any) -> Any:
        return command(terms={"expected_epoch": expected_epoch, "idempotency_key": idempotency_key}, **others)

    return output_option(connection_options(idempotency_key_option(with_terms)))


def _wait_option(command: Callable[..., Any]) -> Callable[..., Any]:
    option = click.option("--wait", type=Seconds(0, 86_400), default=0.0, metavar="SECONDS", help=WAIT_HELP)
    return functools.wraps(command)(option(command))


def _address(_context: click.Context, _argument: click.Parameter, value: str) -> str:
    try:
        split_address(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return value


@members.command("add")
@click.argument("address", metavar="HOST:PORT", callback=_address)
@click.option("--learner", is_flag=True, help="It stays one until `replace` puts it in another's place.")
@_wait_option
@_change_options
def add_command(target: Target, output: str, address: str, learner: bool, wait: float, terms: Terms) -> None:
    """Add the blank member that serves clients at HOST:PORT; it votes once it has caught up.

    What it is called and whether it is a witness it says itself: --name and --role of its `serve`.
    """
    with target.channel(address) as channel:
        try:
            blank = admin_pb2_grpc.AdminStub(channel).Status(admin_pb2.StatusRequest(), timeout=target.timeout)
        except grpc.RpcError as error:
            raise why_not_read(error, target) from None
    if blank.role != "blank":
        raise Refused(f"{address} is not blank: it is member {blank.member_id} of {blank.cluster_id.hex()}", CONFLICT)
    request = admin_pb2.AddMemberRequest(
        name=blank.name,
        peer_address=blank.peer_address,
        client_address=blank.client_address or address,
        incarnation=blank.incarnation,
        learner=learner,
        level_max=blank.level_max,
        member_role=ROLES[blank.member_role],
        **terms,
    )
    added = ask_leader(target, "AddMember", request)
    _told(target, output, added.member_id, wait, lambda m: m is not None and (learner or m.voter), "added")


@members.command("remove")
@click.argument("member")
@click.option("--yes", is_flag=True, help="Don't ask.")
@_change_options
def remove_command(target: Target, output: str, member: str, yes: bool, terms: Terms) -> None:
    """Remove a member for good: its data directory can never come back, only a wiped one as a new member."""
    member_id = member_id_of(target, member)
    _confirm(f"Remove member {member_id} for good?", yes)
    ask_leader(target, "RemoveMember", admin_pb2.RemoveMemberRequest(member_id=member_id, **terms))
    if output == "json":
        print_json({"member_id": member_id, "removed": True})
    else:
        stdout.print(f"member {member_id} is removed")


@members.command("replace")
@click.argument("old")
@click.argument("new")
@click.option("--yes", is_flag=True, help="Don't ask.")
@_wait_option
@_change_options
def replace_command(target: Target, output: str, old: str, new: str, yes: bool, wait: float, terms: Terms) -> None:
    """Put the learner NEW in the place of the voter OLD, which is removed, by one joint change.

    For a member lost for good: start a new one with --join and --learner, then replace. Both have one role.
    """
    old_id, new_id = member_id_of(target, old), member_id_of(target, new)
    if old_id == new_id:
        raise Refused(f"OLD and NEW are the same member, {old_id}: NEW is a learner that takes OLD's place", USAGE)
    _confirm(f"Put member {new_id} in the place of member {old_id}, and remove that for good?", yes)
    ask_leader(target, "ReplaceMember", admin_pb2.ReplaceMemberRequest(old_id=old_id, new_id=new_id, **terms))
    _told(target, output, new_id, wait, lambda m: m is not None and m.voter and m.phase == "steady", "votes")


@dataclass(frozen=True, slots=True)
class _RoleChange:
    """A command that asks for a change of one member's role."""

    name: str
    method: str
    request: Callable[..., Message]
    text: str
    complete: Complete
    words: str
    """Said of the member once it is so."""


def _steady(role: str, member: admin_pb2.MemberInfo | None) -> bool:
    return member is not None and member.voter and member.member_role == role and member.phase == "steady"


_ROLE_CHANGES: Final = (
    _RoleChange(
        "promote",
        "PromoteMember",
        admin_pb2.PromoteMemberRequest,
        "Make a witness a full member: it builds a state beside its log while it goes on voting.",
        functools.partial(_steady, "full"),
        "is full",
    ),
    _RoleChange(
        "demote",
        "DemoteMember",
        admin_pb2.DemoteMemberRequest,
        "Make a full member a witness: it keeps its log and removes its state. Not the leader; transfer first.",
        functools.partial(_steady, "witness"),
        "is a witness",
    ),
    _RoleChange(
        "abort",
        "AbortRoleChange",
        admin_pb2.AbortRoleChangeRequest,
        "End a promotion or demotion that runs: the member is again what it was. Where none runs it says what it is.",
        lambda member: member is not None and member.phase == "steady",
        "",
    ),
)


def _changing_role(change: _RoleChange) -> None:
    """Adds its command."""

    @members.command(change.name, help=change.text)
    @click.argument("member")
    @_wait_option
    @_change_options
    def command(target: Target, output: str, member: str, wait: float, terms: Terms) -> None:
        member_id = member_id_of(target, member)
        ask_leader(target, change.method, change.request(member_id=member_id, **terms))
        _told(target, output, member_id, wait, change.complete, change.words)


for _change in _ROLE_CHANGES:
    _changing_role(_change)


@members.command("reduced-commit")
@click.argument("state", type=click.Choice(["on", "off"]))
@_change_options
def reduced_commit_command(target: Target, output: str, state: str, terms: Terms) -> None:
    """Let half of an even number of voters commit, four or more of them and all full; off: a majority again.

    A leader is still elected by a majority. Commits then wait for one member less; see the documentation for what it
    costs. It rests at an odd number and below four. Refused (exit code 4) beside a witness.
    """
    enabled = state == "on"
    changed = ask_leader(target, "SetReducedCommit", admin_pb2.SetReducedCommitRequest(enabled=enabled, **terms))
    if output == "json":
        print_json({"reduced_commit": enabled, "configuration_epoch": changed.configuration_epoch})
    else:
        stdout.print(f"{'half' if enabled else 'a majority'} of the voters commits")


@members.command("transfer")
@click.argument("member", default="")
@click.option(
    "--expected-term",
    type=TERM,
    help="Only the leadership of this term is handed over. Default: that of the leader there is now.",
)
@idempotency_key_option
@output_option
@connection_options
def transfer_command(target: Target, output: str, member: str, expected_term: int | None, idempotency_key: str) -> None:
    """Hand leadership over to MEMBER, or to the full voter that has caught up best."""
    request = admin_pb2.TransferLeadershipRequest(
        target=member_id_of(target, member) if member else 0,
        expected_term=expected_term if expected_term is not None else list_members(target).term or None,
        idempotency_key=idempotency_key,
    )
    answer = ask_leader(target, "TransferLeadership", request)
    if output == "json":
        print_json({"leader_id": answer.leader_id})
    else:
        stdout.print(f"member {answer.leader_id} leads" if answer.leader_id else "handed over; who leads is not known")


# ---- how they are asked ----------------------------------------------------------------------------------------------


def id_given(member: str) -> int | None:
    """A number is an id; None for a name. Refused: a number that can't be one."""
    if not (member.isascii() and member.isdigit()):
        return None
    if len(member) > len(str(NUMBER_MAX)) or not 0 < int(member) <= NUMBER_MAX:
        raise Refused(f"MEMBER: id {member[:20]} must be 1 to 2^63-1", USAGE)
    return int(member)


def member_id_of(target: Target, member: str) -> int:
    """The id of a member given by id or name. A number is an id, known or not: the leader says so. Refused."""
    number = id_given(member)
    if number is not None:
        return number
    listed = list_members(target)
    for known in listed.members:
        if known.name == member:
            return known.member_id
    names = ", ".join(known.name for known in listed.members)
    raise Refused(f"no member is named {member!r}; there are {names}", NOT_FOUND)


def ask_leader(target: Target, method: str, request: Message) -> Any:
    """The answer of the leader, through the first member that answers. Raises the last error if none does.

    A change is asked of the next member only if this one has not taken it, or can't be reached; all of them may be
    repeated (lockmaster.server.members).
    """
    deadline = time.monotonic() + min(RETRY_SECONDS, target.timeout)
    while True:
        try:
            return _ask_once(target, method, request)
        except Unavailable:  # also: another change is about to commit
            if time.monotonic() >= deadline:
                raise
        time.sleep(POLL_SECONDS)


def _ask_once(target: Target, method: str, request: Message) -> Any:
    last: LockmasterError = Unavailable("no member answered")
    walk = Walk(target)
    for stub in walk:
        try:
            return getattr(stub, method)(request, timeout=target.timeout)
        except grpc.RpcError as error:
            last = error_of_rpc(error)
        if isinstance(last, NotLeader):
            walk.turn_to(last.leader_hint)
        elif not isinstance(last, Unavailable):
            break
    raise last


def _told(target: Target, output: str, member_id: int, wait: float, complete: Complete, words: str) -> None:
    """Says what became of the member, `wait` seconds from now at most.

    Refused (exit code 4) if it was waited for and is not complete.
    """
    deadline = time.monotonic() + wait
    while True:
        listed = list_members(target)
        member = next((m for m in listed.members if m.member_id == member_id), None)
        done = complete(member)
        if done or time.monotonic() >= deadline:
            break
        time.sleep(POLL_SECONDS)
    now = f"{member.member_role} {member.phase}" if member is not None else "no member"
    if wait and not done:
        raise Refused(
            f"member {member_id} is {now} after {wait:g} s; `lockmaster status` of the leader says why", CONFLICT
        )
    if output == "json":
        facts = _row(member) if member is not None else {"member_id": member_id}
        print_json({**facts, "complete": done, "configuration_epoch": listed.configuration_epoch})
    else:
        after = words or f"is {now}"
        stdout.print(f"member {member_id} {after}" if done else f"begun: member {member_id} is {now}")


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refused(f"{question} Give --yes to confirm", USAGE)
    click.confirm(question, abort=True)
