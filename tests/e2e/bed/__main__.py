"""The bed from a shell: `python -m tests.e2e.bed VERB ...` in the checkout; `--help` lists the verbs.

Exit codes: 0 done, 1 a step failed, 2 wrong usage, 77 this machine can't hold a bed (one line says why), 130
interrupted. `kubectl` and `sh` end with the command's own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import builds, host, images, machines
from .cluster import Bed
from .layout import CONTROL, BadName, BadSetting

Verb = Callable[[Bed, argparse.Namespace], None]
Arguments = tuple[tuple[str, dict[str, Any]], ...]


def up(bed: Bed, _: argparse.Namespace) -> None:
    bed.up()
    host.say(f"export KUBECONFIG={bed.places.kubeconfig}")
    host.say(f"export PATH=$PATH:{bed.program('kubectl').parent}:{bed.program('helm').parent}")


def status(bed: Bed, _: argparse.Namespace) -> None:
    for machine in bed.layout.machines:
        if not machines.is_on(bed.places, machine):
            print(f"{machine:<4} {bed.layout.address(machine):<14} no power")
            continue
        state = machines.programs(bed.places, machine)
        shown = ", ".join(f"{name} {'runs' if one['running'] else 'stopped'}" for name, one in state.items())
        print(f"{machine:<4} {bed.layout.address(machine):<14} {shown}")


def load(bed: Bed, arguments: argparse.Namespace) -> None:
    built: dict[str, str] = {}
    for pair in arguments.build_arg:
        key, equals, value = pair.partition("=")
        if not equals:
            raise BadName(f"--build-arg {pair!r}: KEY=VALUE is wanted")
        built[key] = value
    source = images.Dockerfile(Path(arguments.context), arguments.file, built, arguments.target, arguments.network)
    print(bed.load_image(arguments.name, source))


def kubectl(bed: Bed, arguments: argparse.Namespace) -> None:
    host.become(bed.kubectl_command(*arguments.command))


def shell(bed: Bed, arguments: argparse.Namespace) -> None:
    host.become(bed.shell_command(arguments.machine, *(arguments.command or ["sh"])))


NODE: Arguments = (("node", {}),)
PAIR: Arguments = (("first", {}), ("second", {"help": "cp is the API server's machine"}))
PROGRAM: Arguments = (("program", {}), ("machine", {"nargs": "?", "default": CONTROL}))
FOREIGN = {"kubectl": 1, "sh": 2}
"""Verb → how many words are ours: what follows is another program's, options too, and argparse doesn't see it."""
WITHOUT_CLUSTER = ("up", "down", "build")

VERBS: dict[str, tuple[str, Verb, Arguments]] = {
    "up": ("bring the cluster up (make cluster)", up, ()),
    "down": ("remove every trace of it (make cluster-down)", lambda bed, _: bed.down(), ()),
    "build": ("only fill the cache of programs", lambda bed, _: print(builds.ensure(bed.places.cache)), ()),
    "status": ("machines and their programs", status, ()),
    "kubectl": ("kubectl as administrator: all that follows is its own", kubectl, ()),
    "sh": ("a command on a machine, or a shell", shell, (("machine", {}),)),
    "off": ("cut a node's power", lambda bed, a: bed.power_off(a.node), NODE),
    "on": ("boot it again", lambda bed, a: bed.power_on(a.node), NODE),
    "unplug": ("pull a node's cable", lambda bed, a: bed.unplug(a.node), NODE),
    "plug": ("and put it back", lambda bed, a: bed.plug(a.node), NODE),
    "cut": (
        "cut the link between two machines",
        lambda bed, a: bed.cut(a.first, a.second, a.one_way),
        (*PAIR, ("--one-way", {"action": "store_true", "help": "only FIRST no longer hears SECOND"})),
    ),
    "heal": ("undo it", lambda bed, a: bed.heal(a.first, a.second), PAIR),
    "mend": ("undo every fault", lambda bed, _: bed.mend(), ()),
    "stop": ("kill a program and keep it down", lambda bed, a: bed.stop(a.program, a.machine), PROGRAM),
    "start": ("let it run again", lambda bed, a: bed.start(a.program, a.machine), PROGRAM),
    "restart": ("kill it; it is back at once", lambda bed, a: bed.restart(a.program, a.machine), PROGRAM),
    "kill": (
        "kill -9 a pod's container",
        lambda bed, a: bed.kill_container(a.namespace, a.pod, a.container),
        (("namespace", {}), ("pod", {}), ("container", {"nargs": "?", "default": ""})),
    ),
    "load": (
        "build a Dockerfile and put the image on every node",
        load,
        (
            ("name", {"help": "localhost/PATH:TAG"}),
            ("context", {}),
            ("--file", {"default": "Dockerfile"}),
            ("--build-arg", {"action": "append", "default": []}),
            ("--target", {"default": ""}),
            ("--network", {"action": "store_true", "help": "RUN steps have the host's network"}),
        ),
    ),
}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="bed", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, (text, _, arguments) in VERBS.items():
        verb = verbs.add_parser(name, help=text)
        for argument, options in arguments:
            verb.add_argument(argument, **options)
    return top


def parsed(words: list[str]) -> argparse.Namespace:
    """The arguments, or an exit with usage and code 2."""
    ours = FOREIGN.get(words[0], len(words)) if words else 0
    return parser().parse_args(words[:ours], argparse.Namespace(command=words[ours:]))


def main(words: list[str]) -> int:
    arguments = parsed(words)
    host.interrupt_on_terminate()
    try:
        bed = Bed.of()
        if arguments.verb not in WITHOUT_CLUSTER:
            bed.require_up()
        VERBS[arguments.verb][1](bed, arguments)
    except (BadSetting, BadName) as error:
        print(f"bed: {error}", file=sys.stderr)
        return host.EXIT_USAGE
    except host.Cannot as error:
        print(f"bed: {error}", file=sys.stderr)
        return host.EXIT_CANNOT
    except host.Failed as error:
        print(f"bed: {error}", file=sys.stderr)
        return host.EXIT_FAILED
    except KeyboardInterrupt:
        print("bed: interrupted", file=sys.stderr)
        return host.EXIT_INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
