"""Makes .venv with everything the project needs, from Python >= 3.11 with pip alone; quick when nothing changed.

Standard library only: it runs before anything is installed. uv comes from PATH, else from the package registry into
the private environment .build/uv. Versions come from constraints.txt (docs/decisions/0001-constraints.md).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
UV_HOME = ROOT / ".build" / "uv"
CONSTRAINTS = ROOT / "constraints.txt"
INPUTS = (
    "pyproject.toml",
    "raft/pyproject.toml",
    "service/pyproject.toml",
    "operator/pyproject.toml",
    "constraints.txt",
    "tools/setup.py",
)
OWN_PACKAGES = ("lockmaster", "lockmaster-operator", "lockmaster-raft", "lockmaster-workspace")
PYTHON_MIN = (3, 11)


def refuse(line: str) -> int:
    """Says one line and gives the exit code of a setup that can't go on."""
    print(f"setup: {line}", file=sys.stderr)
    return 2


def fingerprint() -> str:
    """What .venv was made from: changes when any input does, not when .venv is activated."""
    interpreter = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    digest = hashlib.sha256(f"{sys.version}\n{interpreter}\n".encode())
    for name in INPUTS:
        digest.update(name.encode() + b"\0" + (ROOT / name).read_bytes())
    return digest.hexdigest()


def missing_tools() -> str:
    """The one line that says what to install before setup can work, or ""."""
    if sys.version_info < PYTHON_MIN:
        return f"Python >= 3.11 is needed, this is {sys.version.split()[0]}; install one and run make PYTHON=python3.11"
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError as missing:
        return (
            f"this Python has no {missing.name}: install its venv and pip packages "
            "(Debian, Ubuntu: apt-get install python3-venv python3-pip; Fedora: dnf install python3-pip)"
        )
    return ""


def find_uv() -> str:
    """The path of uv; installs it into .build/uv where PATH has none. Raises CalledProcessError if that fails."""
    own = UV_HOME / "bin" / "uv"
    found = shutil.which("uv")
    if found:
        return found
    if not own.exists():
        shutil.rmtree(UV_HOME, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(UV_HOME)], check=True)
        pip = [str(UV_HOME / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
        subprocess.run([*pip, "install", "uv"], check=True)
    return str(own)


def install(uv: str, groups: list[str]) -> None:
    """Makes .venv with the three distributions editable and the dev group, at the versions of constraints.txt."""
    if not (VENV / "bin" / "python").exists():
        subprocess.run([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(VENV)], check=True)
    command = [uv, "pip", "install", "--quiet", "--python", str(VENV / "bin" / "python")]
    command += ["--constraint", str(CONSTRAINTS)]
    command += ["--editable", "raft", "--editable", "service[server]", "--editable", "operator"]
    for group in groups:
        command += ["--group", group]
    subprocess.run(command, check=True, cwd=ROOT)


def lock(uv: str) -> None:
    """Writes constraints.txt: exact versions for every supported Python, no index or host in it."""
    command = [uv, "pip", "compile", "--quiet", "--universal", "--upgrade", "--python-version", "3.11"]
    command += ["--no-emit-index-url", "--no-emit-find-links", "--no-annotate", "--no-header"]
    command += ["--group", "dev", "--group", "bench", "--group", "mutation", "--extra", "server"]
    command += ["raft/pyproject.toml", "service/pyproject.toml", "operator/pyproject.toml"]
    answer = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    lines = [line for line in answer.stdout.splitlines() if "==" in line and line.split("==")[0] not in OWN_PACKAGES]
    header = "# Exact versions of everything installed here; refreshed by `make lock`. Why: docs/decisions.\n"
    CONSTRAINTS.write_text(header + "\n".join(lines) + "\n")
    print(f"setup: {CONSTRAINTS.name} pins {len(lines)} packages")


def main() -> int:
    """Sets up, or with --lock refreshes constraints.txt. Exit code 2 if something must be installed first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", action="store_true", help="also what only the benchmarks need")
    parser.add_argument("--mutation", action="store_true", help="also what only make mutation needs")
    parser.add_argument("--lock", action="store_true", help="write constraints.txt from the registry's newest versions")
    arguments = parser.parse_args()
    if line := missing_tools():
        return refuse(line)
    try:
        if arguments.lock:
            lock(find_uv())
            return 0
        wanted = fingerprint()
        extra = [name for name in ("bench", "mutation") if getattr(arguments, name)]
        groups = ["dev", *extra]
        stamp = VENV / f".setup-{groups[-1]}"
        if stamp.exists() and stamp.read_text() == wanted:
            return 0
        print("setup: installing into .venv (a minute the first time)", flush=True)
        install(find_uv(), groups)
        stamp.write_text(wanted)
    except subprocess.CalledProcessError as failed:
        return refuse(f"{Path(failed.cmd[0]).name} failed with exit code {failed.returncode}: its message is above")
    except OSError as failed:
        return refuse(f"{failed.strerror or failed}: {failed.filename or os.curdir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
