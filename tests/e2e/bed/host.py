"""The bed's only ways to the host: commands run and waited for, progress lines, the tools of the system, a lock."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_CANNOT = 77
"""This machine can't hold a bed (no Linux, no root, a tool that can't be had): a reason to skip, by convention."""
COMMAND_SECONDS = 120.0
SHOWN_LINES = 12

PACKAGES = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "sysctl": "procps",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
}
"""Tool → the Debian package that has it."""
CLUSTER_TOOLS = ("containerd", "ctr", "runc", "nft", "ip", "nsenter", "unshare", "sysctl")
CNI_PROGRAMS = ("/usr/lib/cni", "/opt/cni/bin")
CNI_PACKAGE = "containernetworking-plugins"


class Failed(Exception):
    """A step of the bed didn't work; the text says which and shows its last lines."""


class Cannot(Exception):
    """This machine can't hold a bed; the text is the one line that says why and what to do."""


def say(line: str) -> None:
    """One progress line."""
    print(f"bed: {line}", flush=True)


def run(
    command: Sequence[str],
    text_in: str | None = None,
    seconds: float = COMMAND_SECONDS,
    env: Mapping[str, str] | None = None,
) -> str:
    """Runs a command to its end and gives what it printed. Raises Failed with its last lines."""
    shown = " ".join(command)
    try:
        done = subprocess.run(
            command, input=text_in, capture_output=True, text=True, timeout=seconds, check=False, env=env
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{shown}: no end within {seconds:g} s") from error
    except OSError as error:
        raise Failed(f"{shown}: {error}") from error
    if done.returncode:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-SHOWN_LINES:])
        raise Failed(f"{shown}: exit code {done.returncode}\n{tail}")
    return done.stdout


def become(command: Sequence[str]) -> NoReturn:
    """This process ends and the command takes its place: terminal, exit code and all."""
    sys.stdout.flush()
    os.execvp(command[0], tuple(command))


def interrupt_on_terminate() -> None:
    """From now on SIGTERM is what Ctrl-C is: KeyboardInterrupt."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Neither Ctrl-C nor SIGTERM ends what happens in here, which must be short. For the main thread."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_all(commands: Sequence[Sequence[str]]) -> None:
    """Runs commands in order, the first failure ends it."""
    for command in commands:
        run(command)


def wait_until(what: str, seconds: float, check: Callable[[], bool], every: float = 0.2) -> float:
    """Asks until the answer is yes; returns the seconds it took. Raises Failed."""
    started = time.monotonic()
    while not check():
        if time.monotonic() - started > seconds:
            raise Failed(f"{what}: not within {seconds:g} s")
        time.sleep(every)
    return time.monotonic() - started


def require_root_and_linux() -> None:
    """Raises Cannot on a machine that can't hold a bed whatever is installed."""
    if sys.platform != "linux":
        raise Cannot("a cluster of its own needs Linux; use E2E_CONTEXT= with a cluster you have")
    if os.geteuid() != 0:
        raise Cannot("a cluster of its own needs root (namespaces, mounts, cgroups); run as root, or use E2E_CONTEXT=")


def cni_programs() -> str | None:
    """The directory of the CNI plugins, where installed."""
    return next((path for path in CNI_PROGRAMS if Path(path, "bridge").exists()), None)


def require_tools(tools: Sequence[str], cni: bool = False) -> None:
    """Installs the Debian packages of missing tools. Raises Cannot where that is impossible, naming them."""
    packages = {PACKAGES[tool] for tool in tools if shutil.which(tool) is None}
    if cni and cni_programs() is None:
        packages.add(CNI_PACKAGE)
    if not packages:
        return
    names = " ".join(sorted(packages))
    apt = shutil.which("apt-get")
    if apt is None:
        raise Cannot(f"missing, and no apt-get to install them with (names as in Debian): {names}")
    say(f"installing Debian packages: {names}")
    options = ("-o", "DPkg::Lock::Timeout=600", "-qq")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        run((apt, *options, "update"), seconds=600, env=environment)
        install = (apt, *options, "install", "-y", "--no-install-recommends", *sorted(packages))
        run(install, seconds=900, env=environment)
    except Failed as error:
        why = str(error).splitlines()[-1]
        raise Cannot(f"these Debian packages could not be installed: {names} ({why})") from error


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Holds a lock file, so that two commands don't work on the same thing; says so where it has to wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another command that works on {what}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
