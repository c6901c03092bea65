"""`serve` and `dev`: run the server in this process. The only module of the command line that loads server parts."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from lockmaster.cli.connection import Target
from lockmaster.cli.exit_codes import OK, USAGE
from lockmaster.cli.ports import free_ports
from lockmaster.cli.refusals import Refused, refuse_a_file

DEFAULT_CLIENT = "127.0.0.1:7420"
DEFAULT_PEER = "127.0.0.1:7421"
HANDOVER_SECONDS = 10.0
FLAGS: tuple[tuple[str, Any, str], ...] = (
    ("--data-dir", click.Path(path_type=Path), "Journal, guard file and state live here."),
    ("--name", str, "This member's name, for people and the member list."),
    ("--listen-client", str, f"host:port for clients [default: {DEFAULT_CLIENT}]."),
    ("--listen-peer", str, f"host:port for the other members [default: {DEFAULT_PEER}]."),
    (
        "--listen-session",
        str,
        "host:port for direct streams of the SDK, or none [default: a free port].",
    ),
    ("--listen-login", str, "host:port for clients that log in by ServiceAccount token [default: none]."),
    ("--login-audience", str, "What their tokens must be made for [default: lockmaster]."),
    ("--login-api-server", str, "https://host:port that reviews tokens [default: the pod's own cluster's]."),
    ("--login-account", click.Path(path_type=Path), "Directory with token and ca.crt to ask it with."),
    ("--advertise-client", str, "What clients are told to dial [default: what it listens on]."),
    ("--advertise-peer", str, "What members are told to dial [default: what it listens on]."),
    ("--client-tls-cert", click.Path(path_type=Path), "Certificate of the client port, PEM."),
    ("--client-tls-key", click.Path(path_type=Path), "Its key."),
    ("--client-tls-ca", click.Path(path_type=Path), "Clients must show a certificate of this authority (mTLS)."),
    ("--peer-tls-cert", click.Path(path_type=Path), "Certificate of the peer port, PEM."),
    ("--peer-tls-key", click.Path(path_type=Path), "Its key."),
    ("--peer-tls-ca", click.Path(path_type=Path), "Authority of the members' certificates."),
    ("--full-min", int, "With --bootstrap: fewest full voters before writes are admitted [default: 2]."),
    ("--role", click.Choice(["full", "witness"]), "What a blank member joins as: witness = votes, holds no state."),
    ("--roles", click.Choice(["automatic", "operated"]), "Who promotes witnesses: the leader, or an operator."),
    ("--promote-after-s", float, "Silence of a full member before a witness is promoted [default: 60]."),
    ("--restore-after-s", float, "All back for so long before the shape is restored [default: 60]."),
    ("--role-cool-down-s", float, "Least time between two automatic role changes [default: 600]."),
    ("--role-change-timeout-s", float, "A role change not complete by then is aborted [default: 600]."),
    ("--witness-log-mib", int, "Log budget of a witness [default: 4096]."),
    ("--witness-log-policy", click.Choice(["promote", "block", "alarm"]), "What happens above it [default: promote]."),
    ("--profile", click.Choice(["default", "fast"]), "Heartbeat and election times: fast for one data centre."),
    ("--metrics-listen", str, "host:port of the Prometheus page [default: none]."),
    ("--otlp-endpoint", str, "host:port of an OpenTelemetry collector [default: none]."),
    ("--trace-sample-ratio", float, "Share of requests traced, 0 to 1."),
    ("--log-format", click.Choice(["text", "json"]), "How log lines look."),
    ("--log-level", click.Choice(["debug", "info", "warning", "error"]), "What is logged."),
)
LISTS: tuple[tuple[str, str, str], ...] = (
    ("--join", "HOST:PORT", "Client address of a member to join."),
    ("--admins", "NAME", "Who may administer: a name in client certificates; none = any certificate's owner."),
    ("--witness-names", "NAME", "Who is a witness in the intended shape; the same on all members."),
)
SWITCHES: tuple[tuple[str, str], ...] = (
    ("--bootstrap", "First member of a new cluster: makes it if the data directory is blank."),
    ("--learner", "With --join: stay a learner until told otherwise."),
    ("--otlp-insecure", "Speak plaintext to the collector."),
    ("--insecure", "Plaintext; refused on anything but loopback addresses."),
)


def server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds a flag for every setting of the server; what isn't given comes from LOCKMASTER_* or the default."""
    for name, help_text in reversed(SWITCHES):
        command = click.option(name, is_flag=True, default=None, help=help_text)(command)
    for name, metavar, help_text in reversed(LISTS):
        command = click.option(name, metavar=metavar, multiple=True, help=help_text)(command)
    for name, kind, help_text in reversed(FLAGS):
        command = click.option(name, type=kind, default=None, help=help_text)(command)
    return command


def run_server(values: Mapping[str, Any], ready: Callable[[], None] | None = None) -> int:
    """Serves until asked to stop; `ready` is called once it listens.

    Returns the exit code; Refused where the extra is missing or a setting is wrong.
    """
    require_server_extra()
    from lockmaster.server.app import serve as serve_until_stopped
    from lockmaster.server.settings import SettingsError, flag_of, load

    try:
        settings = load({name: value for name, value in values.items() if value not in (None, ())})
    except SettingsError as error:
        flag = flag_of(error.setting) if error.setting else ""
        between = "" if not flag else " " if error.why.startswith("is ") else ": "
        raise Refused(f"{flag}{between}{error.why} (see lockmaster serve --help)", USAGE) from None
    refuse_a_file(settings.data_dir, USAGE, " (see lockmaster serve --help)")
    return serve_until_stopped(settings, ready)


def require_server_extra() -> None:
    """Refused, with what to install, where the server's dependencies aren't there."""
    import importlib

    for module in ("rocksdict", "uvloop", "pydantic_settings", "lockmaster_raft", "opentelemetry.sdk"):
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as missing:
            raise Refused(f'no module {missing.name!r} here: pip install "lockmaster[server]"', USAGE) from None


@click.command()
@server_options
def serve(**values: Any) -> int:
    """Run one member of a cluster.

    The first member: `serve --bootstrap`. Every other: `serve --join HOST:PORT` with the client address of any member
    that is up. A member that has its data directory needs neither.

    \b
    lockmaster serve --data-dir a --name a --bootstrap --insecure
    lockmaster serve --data-dir b --name b --join 127.0.0.1:7420 --insecure \\
        --listen-client 127.0.0.1:7430 --listen-peer 127.0.0.1:7431
    """
    return run_server(values)


@click.command()
def handover() -> int:
    """Hand the lead over, if the member of this pod has it: the pre-stop hook on Kubernetes.

    Settings are those of `serve`, from LOCKMASTER_*: the member is asked at the address that it advertises, with the
    client port's own certificate. It takes at most 10 s, and never changes who is a member.
    """
    require_server_extra()
    from lockmaster.server.settings import SettingsError, load

    try:
        settings = load({})
    except SettingsError as error:
        raise Refused(str(error), USAGE) from None
    address = settings.advertise_client or settings.listen_client
    files = (settings.client_tls_ca, settings.client_tls_cert, settings.client_tls_key)
    target = Target((address,), *files, insecure=settings.insecure, timeout=HANDOVER_SECONDS / 2)
    click.echo(asyncio.run(hand_over(target)))
    return OK


async def hand_over(target: Target) -> str:
    """Transfer the lead away from the one member that `target` names; what happened, in a line. Raises its errors."""
    async with target.client() as client, asyncio.timeout(HANDOVER_SECONDS):
        status = await client.admin.status(target.endpoints[0])
        if status.role != "leader":
            return f"nothing to hand over: this member is {status.role}"
        moved = await client.admin.transfer(0, expected_term=status.term)
        return f"member {moved.leader_id} leads now"


@click.command()
@click.option("--listen", default=DEFAULT_CLIENT, show_default=True, help="host:port for clients; loopback only.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Keep the data here [default: gone when it stops].")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="warning")
def dev(listen: str, data_dir: Path | None, log_level: str) -> int:
    """Serve one member for development: plaintext on loopback, no copies, data gone when it stops."""
    require_server_extra()
    with directory(data_dir) as path:

        def say() -> None:
            click.echo(f"lockmaster dev: serving on {listen}, data in {path}; Ctrl-C stops it", err=True)
            elsewhere = "" if listen == DEFAULT_CLIENT else f" -e {listen}"
            click.echo(f"try: lockmaster config put app greeting hello{elsewhere}", err=True)

        values = {
            "data_dir": path,
            "name": "dev",
            "listen_client": listen,
            "listen_peer": f"127.0.0.1:{free_ports(1)[0]}",
            "insecure": True,
            "bootstrap": True,
            "full_min": 1,
            "profile": "fast",
            "log_level": log_level,
        }
        return run_server(values, say)


@contextlib.contextmanager
def directory(given: Path | None) -> Iterator[Path]:
    """The given data directory, or one that is removed at the end."""
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="lockmaster-dev-") as path:
        yield Path(path, "data")
