"""The commands of `kubectl lockmaster`. What concerns the members is the ordinary command line, through forwards."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from lockmaster.cli import application, exit_codes
from lockmaster.cli.backups import archive_explained
from lockmaster.cli.cluster import list_members, status_rows
from lockmaster.cli.connection import Target
from lockmaster.cli.files import NewFile
from lockmaster.cli.numbers import DAY_SECONDS, LEVEL_LIMIT, POSITION, Seconds
from lockmaster.cli.output import print_json, print_rows, stdout
from lockmaster.cli.refusals import Refused
from lockmaster.cli.repeating import idempotency_key_option
from lockmaster.kubectl import report as bundles
from lockmaster.kubectl.access import GROUP, Api, Json
from lockmaster.kubectl.logs import followed, merged
from lockmaster.kubectl.reaching import cluster_named, pods_of, reached
from lockmaster.kubectl.words import (
    BACKUP_LENGTH_MAX,
    NAMESPACE_LENGTH_MAX,
    ObjectName,
    backup_words,
    first,
    gate_words,
    member_words,
)

RESTARTED: Final = "lockmaster.dev/restarted-at"
"""Annotation of the pod template: another value, another template, so the operator's plan restarts all in its order."""
CLUSTERS: Final = {
    "name": "NAME", "ready": "READY", "version": "VERSION", "leader": "LEADER", "full_copies": "COPIES",
    "quorum_margin": "MARGIN", "paused": "PAUSED",
}  # fmt: skip
CONDITIONS: Final = {"type": "CONDITION", "status": "STATUS", "reason": "REASON", "message": "MESSAGE"}
MEMBERS: Final = {
    "name": "MEMBER", "role": "ROLE", "member_role": "KIND", "phase": "PHASE", "term": "TERM", "lag": "BEHIND",
    "version": "VERSION", "alarms": "ALARMS",
}  # fmt: skip
LINES_MAX: Final = 10_000

EPILOG = """The certificate is the operator's, from Secret CLUSTER-operator-tls: what you may do, the right to read it
decides. Exit codes: 0 done, 1 failed, 2 mistake in the command, 3 not found, 4 conflict, 69 unavailable, 75 unknown
outcome, 77 denied."""


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="lockmaster", prog_name="kubectl lockmaster")
def plugin() -> None:
    """Look after LockClusters from where kubectl works."""


def access_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds -n, --context, --call-timeout; the command gets `api` and `timeout`."""

    @click.option("-n", "--namespace", type=ObjectName(NAMESPACE_LENGTH_MAX), help="Default: the context's.")
    @click.option("--context", help="Of the kubeconfig; default: the current one.")
    @click.option("--call-timeout", type=Seconds(0.1, 3600), default=10.0, show_default=True, metavar="SECONDS")
    @functools.wraps(command)
    def with_api(namespace: str | None, context: str | None, call_timeout: float, **others: Any) -> Any:
        return command(api=Api(context, namespace), timeout=call_timeout, **others)

    return with_api


def format_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `-o table|json`, passed to the command as `output` in the command line's own words."""

    @click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
    @functools.wraps(command)
    def with_output(output: str, **others: Any) -> Any:
        return command(output="json" if output == "json" else "text", **others)

    return with_output


def invoke(arguments: Sequence[str]) -> int:
    """Runs one command line and returns its exit code. Never raises, never a traceback for a user's mistake."""
    return application.run_group(plugin, "kubectl lockmaster", arguments)


# ---- what the API server knows ---------------------------------------------------------------------------------------


@plugin.command()
@click.argument("cluster", type=ObjectName(), required=False)
@format_option
@access_options
def status(api: Api, timeout: float, output: str, cluster: str | None) -> int:
    """The LockClusters of the namespace; of one CLUSTER its conditions, and what each member says of itself.

    Exit code 69 if CLUSTER has no leader that is known.
    """
    if cluster is None:
        rows = [_cluster_row(each) for each in api.list("lockclusters")]
        print_rows(rows, CLUSTERS, output, empty=f"no LockCluster in namespace {api.namespace}")
        return exit_codes.OK
    stored = cluster_named(api, cluster)
    members, why = _members_of(api, stored, timeout)
    told = stored.get("status") or {}
    if output == "json":
        print_json(
            {**_cluster_row(stored), "conditions": told.get("conditions", []), "members": members, "unread": why}
        )
    else:
        print_rows([_cluster_row(stored)], CLUSTERS, output, empty="")
        print_rows(told.get("conditions") or [], CONDITIONS, output, empty="the operator has not seen it yet")
        print_rows(members, MEMBERS, output, empty=f"members were not asked: {why}")
        for row in members:
            if "error" in row:
                stdout.print(f"{row['endpoint']}: {row['error']}")
    return exit_codes.OK if any(row.get("leader") for row in members) else exit_codes.UNAVAILABLE


def _members_of(api: Api, stored: Json, timeout: float) -> tuple[list[dict[str, Any]], str]:
    """Their own words; () and why not, where they can't be reached: the conditions are worth showing anyway."""
    try:
        with reached(api, stored, timeout) as target:
            rows = status_rows(target)
    except Refused as error:
        return [], error.format_message()
    newest = max((row.get("commit_index", 0) for row in rows), default=0)
    for row in rows:
        at = row.get("applied_index" if row.get("serves_state") else "commit_index")
        row["lag"] = newest - at if at is not None else ""
    return rows, ""


def _cluster_row(stored: Json) -> dict[str, Any]:
    told = stored.get("status") or {}
    ready: Json = next((c for c in told.get("conditions") or () if c.get("type") == "Ready"), {})
    return {
        "name": stored["metadata"]["name"],
        "ready": ready.get("status", "Unknown"),
        "version": told.get("version", ""),
        "leader": told.get("leader", ""),
        "full_copies": told.get("fullCopies", 0),
        "quorum_margin": told.get("quorumMargin", 0),
        "paused": bool(stored.get("spec", {}).get("paused")),
    }


def _pausing(name: str, paused: bool, text: str, words: str) -> None:
    """Adds the command `name CLUSTER`."""

    @plugin.command(name, help=text)
    @click.argument("cluster", type=ObjectName())
    @format_option
    @access_options
    def command(api: Api, timeout: float, output: str, cluster: str) -> None:
        cluster_named(api, cluster)
        api.merge("lockclusters", cluster, {"spec": {"paused": paused}})
        _say(output, {"name": cluster, "paused": paused}, f"{cluster} {words}")


_pausing(
    "pause",
    True,
    "Set spec.paused: the operator changes nothing of members, pods and objects any more; the members serve on.",
    "is paused; `kubectl lockmaster resume` ends that",
)
_pausing("resume", False, "Take spec.paused back.", "is looked after again")


@plugin.command()
@click.argument("cluster", type=ObjectName())
@format_option
@access_options
def restart(api: Api, timeout: float, output: str, cluster: str) -> None:
    """Ask the operator to restart every member: followers first, the leader last, one at a time, none without margin.

    It waits by itself while anything is unhealthy or the maintenance window is closed: `status` says on what.
    """
    stored = cluster_named(api, cluster)
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    api.merge("lockclusters", cluster, {"spec": {"podTemplate": {"annotations": {RESTARTED: now}}}})
    paused = "; it is paused, and will begin after `resume`" if stored.get("spec", {}).get("paused") else ""
    words = f"{cluster}: restart asked for at {now}{paused}; follow it by kubectl get lockclusters -w"
    _say(output, {"name": cluster, "restarted_at": now}, words)


def _say(output: str, facts: Json, words: str) -> None:
    if output == "json":
        print_json(facts)
    else:
        stdout.print(words)


# ---- what the members are asked --------------------------------------------------------------------------------------


def _ask(api: Api, cluster: str, timeout: float, words: Callable[[Target], list[str]]) -> int:
    with reached(api, cluster_named(api, cluster), timeout) as target:
        return application.invoke(words(target), target)


@plugin.command()
@click.argument("cluster", type=ObjectName())
@format_option
@access_options
def members(api: Api, timeout: float, output: str, cluster: str) -> int:
    """The members with role, phase, lag and levels, as the leader sees them."""
    return _ask(api, cluster, timeout, lambda target: ["members", "list", "-o", output])


@plugin.command()
@click.argument("cluster", type=ObjectName())
@click.argument("member")
@click.option("--wait", type=Seconds(0, DAY_SECONDS), default=0.0, metavar="SECONDS", help="For it to be complete.")
@click.option("--expected-epoch", type=POSITION, help="Default: the configuration's epoch as it is now.")
@idempotency_key_option
@first(member_words)
@format_option
@access_options
def promote(
    api: Api,
    timeout: float,
    output: str,
    cluster: str,
    member: str,
    wait: float,
    expected_epoch: int | None,
    idempotency_key: str,
) -> int:
    """Make the witness MEMBER (id or name) a full member now.

    Refused (exit code 4) if the configuration is another than when it was looked at. The operator restores the shape
    of the spec once all full members are back: `pause` first if it is to stay.
    """

    def words(target: Target) -> list[str]:
        epoch = expected_epoch if expected_epoch is not None else list_members(target).configuration_epoch
        terms = ["--expected-epoch", str(epoch), "--idempotency-key", idempotency_key, "--wait", f"{wait:g}"]
        return ["members", "promote", member, *terms, "-o", output]

    return _ask(api, cluster, timeout, words)


@plugin.command()
@click.argument("cluster", type=ObjectName())
@click.argument("member", default="")
@first(member_words)
@format_option
@access_options
def transfer(api: Api, timeout: float, output: str, cluster: str, member: str) -> int:
    """Hand leadership over to MEMBER, or to the full voter that has caught up best."""
    return _ask(api, cluster, timeout, lambda target: ["members", "transfer", *filter(None, [member]), "-o", output])


@plugin.command()
@click.argument("cluster", type=ObjectName())
@click.argument(
    "operation", type=click.Choice(["status", "fence", "activate", "cancel", "deactivate"]), default="status"
)
@click.argument("level", type=click.IntRange(2, LEVEL_LIMIT), required=False)
@click.option("--expected-epoch", type=POSITION, help="Refuse if `gate CLUSTER` would say another epoch.")
@first(gate_words)
@format_option
@access_options
def gate(
    api: Api,
    timeout: float,
    output: str,
    cluster: str,
    operation: str,
    level: int | None,
    expected_epoch: int | None,
) -> int:
    """Which levels are active and known; or `fence`, `activate`, `cancel`, `deactivate` a LEVEL, which the operator
    does by itself where spec.witness.mode is Auto."""
    given = [] if level is None else [str(level)]
    if expected_epoch is not None:
        given += ["--expected-epoch", str(expected_epoch)]
    return _ask(api, cluster, timeout, lambda target: ["gate", operation, *given, "-o", output])


@plugin.command()
@click.argument("cluster", type=ObjectName())
@click.option(
    "--file",
    "file",
    type=NewFile(),
    metavar="PATH",
    help="Stream the archive to this new file.",
)
@click.option("--claim", type=ObjectName(), help="Let the operator write it, to this PersistentVolumeClaim.")
@click.option(
    "--name", type=ObjectName(BACKUP_LENGTH_MAX), help="Of the LockBackup of --claim; default: CLUSTER and the time."
)
@first(backup_words)
@format_option
@access_options
def backup(
    api: Api, timeout: float, output: str, cluster: str, file: Path | None, claim: str | None, name: str | None
) -> int:
    """A consistent backup now: of --file or --claim exactly one."""
    if file is not None:
        return _ask(api, cluster, timeout, lambda target: ["backup", str(file), "-o", output])
    cluster_named(api, cluster)
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    body = {
        "apiVersion": GROUP.removeprefix("apis/"),
        "kind": "LockBackup",
        "metadata": {"name": name or f"{cluster}-{now}", "namespace": api.namespace},
        "spec": {"clusterRef": {"name": cluster}, "store": {"pvc": {"claimName": claim}}},
    }
    made = api.create("lockbackups", body)["metadata"]["name"]
    _say(output, {"name": made}, f"LockBackup {made} is made: kubectl -n {api.namespace} get lockbackup {made} -w")
    return exit_codes.OK


# ---- what they have said ---------------------------------------------------------------------------------------------


@plugin.command()
@click.argument("cluster", type=ObjectName())
@click.option("--tail", type=click.IntRange(0, LINES_MAX), default=200, show_default=True, help="Lines of each member.")
@click.option("--since", type=click.IntRange(1, 604_800), metavar="SECONDS", help="No older lines.")
@click.option("--previous", is_flag=True, help="Of the containers before their last restart.")
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
@access_options
def logs(api: Api, timeout: float, cluster: str, tail: int, since: int | None, previous: bool, follow: bool) -> None:
    """All members' logs by time, each line behind its pod's name."""
    cluster_named(api, cluster)
    names = [pod["metadata"]["name"] for pod in pods_of(api, cluster)]
    if not names:
        raise Refused(f"LockCluster {cluster} has no pod", exit_codes.UNAVAILABLE)
    query = {"tailLines": str(tail), "timestamps": "true", **({"sinceSeconds": str(since)} if since else {})}
    if previous:
        query["previous"] = "true"
    lines = followed(api, names, query) if follow else merged(api, names, query)
    for line in lines:
        click.echo(line)


@plugin.command()
@click.argument("cluster", type=ObjectName())
@click.option("--file", type=NewFile(), metavar="PATH", help="Default: CLUSTER-report-TIME.tar.gz here.")
@format_option
@access_options
def report(api: Api, timeout: float, output: str, cluster: str, file: Path | None) -> None:
    """A bundle for whoever helps you: objects, events, members' states and the last of their logs; no Secret, no key,
    no value of the state, no variable that you gave."""
    stored = cluster_named(api, cluster)
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    path = file or Path(f"{cluster}-report-{now}.tar.gz")
    states, why = _members_of(api, stored, timeout)
    with archive_explained(path):
        missing = bundles.write(path, api, stored, states or [{"error": why}])
    for line in missing:
        click.echo(f"kubectl-lockmaster: left out: {line}", err=True)
    _say(output, {"file": str(path), "left_out": missing}, f"{path}: {path.stat().st_size} bytes")
