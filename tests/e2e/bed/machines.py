"""The machines of a bed as processes: started, found again, killed, entered.

A machine is known by its network namespace and by the process that keeps it, noted with its start time: a number that
the system has given to another process since is never killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from . import host
from .layout import BadName, Layout, Places

KEEPER = "keeper.json"
"""In the machine's directory: pid and start time of the process whose end is the machine's power cut."""
PYTHON = Path(sys.executable)
INIT = Path(__file__).with_name("machine.py")
KILL_SECONDS = 15.0
START_SECONDS = 10.0


def start_time(pid: int) -> str:
    """A process's start time in the kernel's ticks, "" where none of that number lives."""
    try:
        fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    # One that has ended stays listed until its parent asks: a machine started by this very process.
    return "" if fields[0] in ("Z", "X") else fields[19]


def parent_of(pid: int) -> int:
    """0 where there is no such process."""
    try:
        return int(Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def keeper_of(directory: Path) -> int:
    """The live keeper of the machine of that directory, or 0."""
    try:
        noted = json.loads((directory / KEEPER).read_text())
    except OSError:
        return 0
    return int(noted["pid"]) if start_time(int(noted["pid"])) == noted["start"] else 0


def first_process(directory: Path) -> int:
    """The machine's pid 1 as the host numbers it, or 0: the keeper's child."""
    keeper = keeper_of(directory)
    if not keeper:
        return 0
    children = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    return next((pid for pid in children if parent_of(pid) == keeper), 0)


def start(layout: Layout, places: Places, machine: str) -> None:
    """Powers a machine up: its network namespace and its directory are there. Raises Failed."""
    directory = places.machine(machine)
    (directory / "log").mkdir(exist_ok=True)
    (directory / "hold").mkdir(exist_ok=True)
    (directory / "programs.json").unlink(missing_ok=True)
    namespaces = ("--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts", "--ipc")
    enter = ("nsenter", f"--net=/run/netns/{layout.namespace(machine)}", "unshare", *namespaces)
    with (directory / "log" / "machine.log").open("ab") as log:
        process = subprocess.Popen(
            (*enter, str(PYTHON), str(INIT), str(directory)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )
    # The keeper outlives this command: it is found again by the note, not by this object.
    process.returncode = 0
    (directory / KEEPER).write_text(json.dumps({"pid": process.pid, "start": start_time(process.pid)}))
    try:
        host.wait_until(f"the start of {machine}", START_SECONDS, (directory / "programs.json").exists, 0.02)
    except host.Failed as error:
        tail = (directory / "log" / "machine.log").read_text().strip().splitlines()[-host.SHOWN_LINES :]
        raise host.Failed("\n".join([str(error), *tail])) from error


def kill_processes(layout: Layout, machine: str) -> bool:
    """SIGKILL to every process that a machine has now; whether it had any. One may end by itself meanwhile."""
    pids = [int(word) for word in host.run(("ip", "netns", "pids", layout.namespace(machine))).split()]
    for pid in pids:
        if pid != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return bool(pids)


def kill(layout: Layout, places: Places, machine: str) -> None:
    """Cuts a machine's power: every process of it ends at once. No error where it has none."""
    keeper = keeper_of(places.machine(machine))
    if keeper:
        os.kill(keeper, signal.SIGKILL)
    if not Path("/run/netns", layout.namespace(machine)).exists():
        return
    gone = f"the end of {machine}'s processes"
    host.wait_until(gone, KILL_SECONDS, lambda: not kill_processes(layout, machine), 0.05)
    (places.machine(machine) / KEEPER).unlink(missing_ok=True)


def processes_of(places: Places) -> list[int]:
    """The processes that keep or are the first of a machine, by its command line; the others end with those."""
    mark = str(places.machine("x").parent).encode() + b"/"
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if str(INIT).encode() in words and any(word.startswith(mark) for word in words):
            found.append(int(path.parent.name))
    return found


def is_on(places: Places, machine: str) -> bool:
    return keeper_of(places.machine(machine)) != 0


def entered(places: Places, machine: str, *command: str) -> tuple[str, ...]:
    """The command that runs another one on the machine, in all its namespaces. Raises Failed where it has no power."""
    pid = first_process(places.machine(machine))
    if not pid:
        raise host.Failed(f"{machine} has no power")
    return ("nsenter", f"--target={pid}", "--mount", "--pid", "--net", "--uts", "--ipc", "--", *command)


def programs(places: Places, machine: str) -> dict[str, dict[str, int]]:
    """What runs on the machine: name → {"running": bool, "held": bool, "starts": count}."""
    state: dict[str, dict[str, int]] = json.loads((places.machine(machine) / "programs.json").read_text())
    return state


def hold(layout: Layout, places: Places, machine: str, program: str, held: bool) -> None:
    """Kills a program and keeps it down, or lets it run again; back once that is so. Raises Failed, BadName."""
    if program not in layout.programs_of(machine):
        raise BadName(f"no program {program!r} on {machine}: it has {', '.join(layout.programs_of(machine))}")
    first = first_process(places.machine(machine))
    if not first:
        raise host.Failed(f"{machine} has no power")
    note = places.machine(machine) / "hold" / program
    if held:
        note.touch()
    else:
        note.unlink(missing_ok=True)
    os.kill(first, signal.SIGUSR1)

    def is_so() -> bool:
        # "held" tells that the supervisor has seen the note: a program that is just being restarted is no stopped one.
        state = programs(places, machine)[program]
        return bool(state["held"]) == held and bool(state["running"]) != held

    host.wait_until(f"{program} {'stopped' if held else 'started'}", START_SECONDS, is_so, 0.02)
