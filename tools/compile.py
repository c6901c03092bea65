"""Compiles the pure, typed modules of the data path with mypyc into .build/compiled; the sources stay as they are.

`PYTHONPATH=.build/compiled python -m lockmaster.cli.main serve ...` runs them; `compile.py --run -m MODULE ...` builds
and then runs a program on them, or on the sources where that is not possible. Chosen are the consensus core, the state
machine, what an operation passes through between a socket and them, and the simulator: where the interpreter's time
goes. Everything else is copied beside them uncompiled, so the directory holds both packages whole. Nothing is built
while the sources and this file are unchanged, and once at a time. Needs a C compiler and Python's headers; says so in
one line where they are missing, with exit code 3.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.native_init import with_native_init  # noqa: E402  # a script knows only its own folder

COMPILED = ROOT / ".build" / "compiled"
SOURCES = (ROOT / "raft/src/lockmaster_raft", ROOT / "service/src/lockmaster")
FOLDERS = (
    "lockmaster_raft",
    "lockmaster_raft/testing",
    "lockmaster_raft/testing/invariants",
    "lockmaster/statemachine",
)
SINGLE = tuple(
    f"lockmaster/{name}.py"
    for names in (
        "client/calls client/holds client/session_core client/telemetry measuring",
        "server/applying server/batching server/events server/members server/operations server/peering",
        "server/meters server/operation_tracing server/persisting server/questions",
        "server/runtime server/session_stream server/waiting",
        "server/peers/codec framing server/peers/hub server/peers/outbound",
        "storage/frame storage/journal storage/log_index storage/state",
        "testing/machine testing/simulation testing/simulation_clients testing/simulation_observe",
    )
    for name in names.split()
)
"""With each class its bases: a compiled one over one that is not does not work."""
LEFT_OUT = (
    "__init__.py",  # a compiled package looks for its submodules beside the shared library
    "__main__.py",
    "lockmaster_raft/testing/application.py",  # its protocols
    "lockmaster_raft/testing/cover.py",
    "lockmaster_raft/testing/runner.py",  # its functions are sent to other processes
    "lockmaster_raft/record.py",  # a decorator's decorator
    "lockmaster/statemachine/command_table.py",  # mypyc can't type the imported tables
    "lockmaster/statemachine/view.py",  # its Table is generic and a slotted dataclass, which mypyc can't make
)
MUTANTS = ("mutants", "patches")
"""They change sources, and run those."""
NOT_POSSIBLE = 3
BUILD_SECONDS_MAX = 3000
"""Below what tools/run_tests.py allows a command that runs on what others leave."""


def why_not() -> str:
    """What is missing, or ""."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None and shutil.which("cc") is None:
        return f"no C compiler ({compiler})"
    if not Path(sysconfig.get_paths()["include"], "Python.h").exists():
        return "no headers of this Python (Debian, Ubuntu: python3-dev)"
    return ""


def chosen(where: Path) -> Iterator[str]:
    """The modules to compile, as paths below `where`, sorted."""
    for folder in FOLDERS:
        for path in sorted((where / folder).glob("*.py")):
            name = path.relative_to(where).as_posix()
            if path.name not in LEFT_OUT and name not in LEFT_OUT and not path.name.startswith(MUTANTS):
                yield name
    yield from SINGLE


def fingerprint() -> str:
    """Changes when a source, this file or the interpreter does."""
    digest = hashlib.sha256(f"{sys.version}\n{sys.prefix}\n".encode())
    for source in (*SOURCES, Path(__file__), Path(__file__).with_name("native_init.py")):
        for path in sorted(source.rglob("*.py")) if source.is_dir() else [source]:
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def build(where: Path) -> int:
    """Copies both packages to `where` and compiles the chosen modules in place. Returns the compiler's exit code."""
    for source in SOURCES:
        shutil.copytree(source, where / source.name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in chosen(where):
        text = (where / name).read_text()
        (where / name).write_text(with_native_init(text))
    command = [str(Path(sys.executable).parent / "mypyc"), "--strict", *chosen(where)]
    environment = {**os.environ, "MYPYPATH": str(where), "CFLAGS": os.environ.get("CFLAGS", "-O2")}
    log = where / "build.log"
    with log.open("wb") as out:
        done = subprocess.run(
            command, cwd=where, env=environment, stdout=out, stderr=out, timeout=BUILD_SECONDS_MAX, check=False
        )
    if done.returncode:
        print("\n".join(log.read_text(errors="replace").strip().splitlines()[-15:]), file=sys.stderr)
    shutil.rmtree(where / "build", ignore_errors=True)
    return done.returncode


def compiled() -> int:
    """Builds, unless it is there; exit code 3 where it is not possible, 1 where it failed."""
    if missing := why_not():
        print(f"compile: {missing}: the packages run uncompiled", file=sys.stderr)
        return NOT_POSSIBLE
    COMPILED.parent.mkdir(exist_ok=True)
    with COMPILED.with_name("compiled.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _compiled()


def _compiled() -> int:
    wanted = fingerprint()
    stamp = COMPILED / "fingerprint"
    if stamp.exists() and stamp.read_text() == wanted:
        return 0
    print("compile: the data path and the simulator with mypyc (two to six minutes)", file=sys.stderr, flush=True)
    fresh = COMPILED.with_name("compiled.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        code = build(fresh)
    except subprocess.TimeoutExpired:
        print(f"compile: ended after {BUILD_SECONDS_MAX} s", file=sys.stderr)
        code = 1
    if code:
        return 1
    (fresh / "fingerprint").write_text(wanted)
    shutil.rmtree(COMPILED, ignore_errors=True)
    fresh.rename(COMPILED)
    return 0


def main(arguments: list[str]) -> int:
    """The command; with --run it becomes what that names."""
    code = compiled()
    if arguments[:1] != ["--run"]:
        return code
    if code == 0:
        os.environ["PYTHONPATH"] = str(COMPILED)
    elif code != NOT_POSSIBLE:
        return code
    os.execv(sys.executable, [sys.executable, *arguments[1:]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
