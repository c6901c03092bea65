"""`make mutation`: how many small changes to the core's decisive modules do its tests notice?

cosmic-ray finds and makes the mutants; running its command per mutant would take a day here, so this program runs the
tests itself. It collects tests/raft once, notes which tests enter which function, and forks for each mutant: the
child swaps the code of the mutated function and runs the tests that enter it, the last killers first, until one fails.
A mutant outside of a function's body (a constant, a default, a decorator) needs a fresh import and runs every test.

Exit code 1 if the score of a module is below `--score`. docs/mutation.md says what is left out, and explains survivors.
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib.util
import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import cosmic_ray.plugins
import hypothesis
import pytest
from _pytest.runner import runtestprotocol
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "raft" / "src" / "lockmaster_raft"
DECISIONS = ("members", "role_changes", "coverage", "gating", "promise", "commit")
"""Who may become a voter, change its role, truncate, gate a level, and what counts as committed."""
MODULES = ("election", "quorum", "log", "membership", "witness", "gates", *DECISIONS)
TESTS = ("tests/raft", "--ignore=tests/raft/test_spec.py")
"""test_spec.py runs TLC, which doesn't know these modules."""
PYTEST = ("-p", "no:cacheprovider", "--capture=no", "--assert=plain")
CPU_SECONDS_MAX = 60
"""A child that uses more CPU time hangs: killed. CPU, so that a busy or frozen machine kills nothing."""
MEMORY_BYTES_MAX = 3 << 30

# These never change what the code does. Members of enums, None and the small numbers of tests are equal exactly when
# they are identical; variables are no one's mistake to insert at random (and these two need arguments).
SKIPPED = {
    "core/ReplaceComparisonOperator_Is_Eq",
    "core/ReplaceComparisonOperator_IsNot_NotEq",
    "core/ReplaceComparisonOperator_Eq_Is",
    "core/ReplaceComparisonOperator_NotEq_IsNot",
    "core/VariableReplacer",
    "core/VariableInserter",
}

Function = tuple[str, int]
"""(qualified name, first line) of a function: what `__code__` says."""
Position = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: the `occurrence`-th place of a module where `operator` applies. `function` is None outside of any."""

    module: str
    operator: str
    occurrence: int
    line: int
    function: Function | None

    @property
    def path(self) -> Path:
        return SOURCE / f"{self.module}.py"

    def text(self) -> str:
        """The module's mutated source."""
        text = mutate_code(self.path.read_text(), cosmic_ray.plugins.get_operator(self.operator)(), self.occurrence)
        if text is None:
            raise RuntimeError(f"{self.operator} {self.occurrence} does not apply to {self.module}")
        compile(text, str(self.path), "exec")
        return str(text)

    def shown(self) -> str:
        """The changed line before and after."""
        pairs = zip(self.path.read_text().splitlines(), self.text().splitlines(), strict=False)
        changed = next(((old.strip(), new.strip()) for old, new in pairs if old != new), ("", ""))
        return f"{self.module}.py:{self.line} `{changed[0]}` → `{changed[1]}`"


class Places:
    """Where a module's annotations (never evaluated) and function bodies are."""

    def __init__(self, tree: ast.Module) -> None:
        self.annotations: list[tuple[Position, Position]] = []
        self.bodies: list[tuple[Position, Position, Function]] = []
        self._visit(tree, "", inside=False)

    def _visit(self, node: ast.AST, prefix: str, *, inside: bool) -> None:
        for name in ("annotation", "returns"):
            if isinstance(found := getattr(node, name, None), ast.expr):
                self.annotations.append(span(found, found))
        if isinstance(node, ast.FunctionDef) and not inside:
            first = min(node.lineno, *(d.lineno for d in node.decorator_list)) if node.decorator_list else node.lineno
            self.bodies.append((*span(node.body[0], node.body[-1]), (prefix + node.name, first)))
            inside = True
        if isinstance(node, ast.ClassDef):
            prefix += f"{node.name}."
        for child in ast.iter_child_nodes(node):
            self._visit(child, prefix, inside=inside)

    def annotated(self, at: Position) -> bool:
        return any(first <= at < stop for first, stop in self.annotations)

    def function(self, at: Position) -> Function | None:
        return next((name for first, stop, name in self.bodies if first <= at < stop), None)


def span(first: ast.expr | ast.stmt, last: ast.expr | ast.stmt) -> tuple[Position, Position]:
    return (first.lineno, first.col_offset), (last.end_lineno or 0, last.end_col_offset or 0)


def mutants_of(module: str) -> list[Mutant]:
    """Every mutant of a module that may change what it does."""
    source = (SOURCE / f"{module}.py").read_text()
    places, nodes = Places(ast.parse(source)), list(ast_nodes(get_ast(source)))
    found = []
    for operator in sorted(cosmic_ray.plugins.operator_names()):
        if operator in SKIPPED:
            continue
        change = cosmic_ray.plugins.get_operator(operator)()
        spots = [spot for node in nodes for spot, _ in change.mutation_positions(node)]
        for occurrence, at in enumerate(spots):
            if not places.annotated(at):
                found.append(Mutant(module, operator, occurrence, at[0], places.function(at)))
    return sorted(found, key=lambda m: (m.line, m.operator, m.occurrence))


# --- the child's part -----------------------------------------------------------------------------------------------


def code_named(code: CodeType, function: Function) -> CodeType | None:
    """The code of that function within a module's code."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if (constant.co_qualname, constant.co_firstlineno) == function:
                return constant
            if found := code_named(constant, function):
                return found
    return None


def living_functions() -> dict[tuple[str, Function], list[FunctionType]]:
    """The functions of the modules, by module and name."""
    modules = {str(SOURCE / f"{module}.py"): module for module in MODULES}
    found = defaultdict(list)
    for one in gc.get_objects():
        if isinstance(one, FunctionType) and (module := modules.get(one.__code__.co_filename)):
            found[module, (one.__code__.co_qualname, one.__code__.co_firstlineno)].append(one)
    return found


def swap(mutant: Mutant, function: Function, living: Sequence[FunctionType]) -> None:
    """Give the living function its mutated code."""
    new = code_named(compile(mutant.text(), str(mutant.path), "exec"), function)
    if new is None or not living:
        raise RuntimeError(f"no function {function} to mutate in {mutant.module}")
    for one in living:
        one.__code__ = new


class MutatedLoader(SourceFileLoader):
    """Loads one module from mutated text."""

    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self._text = text

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._text, self.path, "exec", dont_inherit=True)


class MutatedFinder:
    """Import hook for one mutant."""

    def __init__(self, mutant: Mutant) -> None:
        self._name, self._path, self._text = f"lockmaster_raft.{mutant.module}", str(mutant.path), mutant.text()

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != self._name:
            return None
        loader = MutatedLoader(name, self._path, self._text)
        return importlib.util.spec_from_file_location(name, self._path, loader=loader)


def passes(item: pytest.Item) -> bool:
    return not any(report.failed for report in runtestprotocol(item, nextitem=None, log=False))


def in_child(work: Callable[[int], int]) -> tuple[int, str]:
    """Runs `work(pipe)` in a silent, limited fork. Returns its exit code (-signal) and what it wrote to the pipe."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    if (child := os.fork()) == 0:
        code = BROKEN
        try:
            os.close(reader)
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS_MAX, CPU_SECONDS_MAX + 5))
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
            signal.signal(signal.SIGXCPU, signal.SIG_DFL)
            code = work(writer)
        except (SyntaxError, AttributeError):  # cosmic-ray can't make it, or what it makes is no Python
            code = VOID
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


SURVIVED, KILLED, VOID, BROKEN = 0, 1, 71, 70


# --- running --------------------------------------------------------------------------------------------------------


class Swapping:
    """A pytest plugin that replaces the test loop: a traced run of all tests, then one fork for each mutant."""

    def __init__(self, mutants: Sequence[Mutant], done: Callable[[Mutant, str], None]) -> None:
        self._mutants, self._done = mutants, done
        self._entered: dict[tuple[str, Function], set[str]] = defaultdict(set)
        self._seconds: dict[str, float] = {}
        self.order: dict[str, list[str]] = {}
        """For each module, its tests: those that enter it first, quick ones first."""
        self.broken: list[str] = []

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._baseline(session.items)
        if not self.broken:
            self._loop({item.nodeid: item for item in session.items})
        return True

    def _baseline(self, items: Iterable[pytest.Item]) -> None:
        files = {str(SOURCE / f"{module}.py"): module for module in MODULES}
        for item in items:
            entered = set[tuple[str, Function]]()

            def note(frame: FrameType, event: str, arg: Any, into: set[tuple[str, Function]] = entered) -> None:
                if module := files.get(frame.f_code.co_filename):
                    into.add((module, (frame.f_code.co_qualname, frame.f_code.co_firstlineno)))

            began = time.process_time()
            sys.settrace(note)
            good = passes(item)
            sys.settrace(None)
            self._seconds[item.nodeid] = time.process_time() - began
            if not good:
                self.broken.append(item.nodeid)
            for place in entered:
                self._entered[place].add(item.nodeid)
        for module in MODULES:
            inside = {name for (of, _), names in self._entered.items() if of == module for name in names}
            self.order[module] = sorted(self._seconds, key=lambda n: (n not in inside, self._seconds[n]))

    def _loop(self, items: dict[str, pytest.Item]) -> None:
        killers: dict[tuple[str, Function], list[str]] = defaultdict(list)
        living = living_functions()
        gc.freeze()  # the children copy fewer pages
        for mutant in self._mutants:
            function = mutant.function
            if function is None:
                continue
            place = (mutant.module, function)
            names = sorted(self._entered[place], key=lambda n: self._seconds[n])
            names = list(dict.fromkeys((*killers[place], *names)))

            def work(pipe: int, mutant: Mutant = mutant, at: Function = function, names: list[str] = names) -> int:
                swap(mutant, at, living[mutant.module, at])
                for name in names:
                    if not passes(items[name]):
                        os.write(pipe, name.encode())
                        return KILLED
                return SURVIVED

            code, killer = in_child(work)
            if killer and killer not in killers[place]:
                killers[place].insert(0, killer)
            self._done(mutant, verdict(code))


class Ordered:
    """A pytest plugin for one mutant in a fresh process: the order of tests, and which failed."""

    def __init__(self, order: Sequence[str]) -> None:
        self._place = {name: at for at, name in enumerate(order)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: self._place.get(item.nodeid, len(self._place)))


def verdict(code: int) -> str:
    if code == SURVIVED:
        return "survived"
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return "hung"
    if code == VOID:
        return "void"
    if code == BROKEN:
        raise RuntimeError("a child failed to mutate its module")
    return "killed"


def run_fresh(mutant: Mutant, order: Sequence[str]) -> str:
    """A mutant outside of any function: import everything anew, run every test until one fails."""

    def work(_: int) -> int:
        sys.meta_path.insert(0, MutatedFinder(mutant))
        return KILLED if pytest.main([*PYTEST, "-x", *TESTS], plugins=[Ordered(order)]) else SURVIVED

    return verdict(in_child(work)[0])


def run_all(mutants: Sequence[Mutant], done: Callable[[Mutant, str], None]) -> list[str]:
    """Runs them, telling each one's verdict. Returns the tests that fail without any mutant: then nothing was run."""
    # No deadlines: they would kill mutants on a busy machine.
    calm = hypothesis.settings(
        derandomize=True, database=None, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    hypothesis.settings.register_profile("mutation", calm)
    hypothesis.settings.load_profile("mutation")
    reader, writer = os.pipe()
    # The tests are imported in a child, so that this process stays without them for the fresh ones.
    if (child := os.fork()) == 0:
        os.close(reader)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

        def tell(what: object) -> None:
            os.write(writer, json.dumps(what).encode() + b"\n")

        at = {mutant: place for place, mutant in enumerate(mutants)}
        loop = Swapping(mutants, lambda mutant, said: tell([at[mutant], said]))
        try:
            code = pytest.main([*PYTEST, *TESTS], plugins=[loop])
            tell({"order": loop.order, "broken": loop.broken or ([f"pytest ended with {code}"] if code else [])})
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writer)
    last: dict[str, Any] = {"order": {}, "broken": ["the tests' process died"]}
    with os.fdopen(reader) as pipe:
        for line in pipe:
            told = json.loads(line)
            if isinstance(told, dict):
                last = told
            else:
                done(mutants[told[0]], told[1])
    os.waitpid(child, 0)
    if not last["broken"]:
        for mutant in mutants:
            if mutant.function is None:
                done(mutant, run_fresh(mutant, last["order"][mutant.module]))
    return list(last["broken"])


def report(results: dict[Mutant, str], modules: Sequence[str], score_min: float) -> bool:
    """Prints a table of the scores; whether all reach `score_min`."""
    print(f"\n{'module':<12}{'mutants':>8}{'killed':>8}{'hung':>6}{'survived':>10}{'score':>8}")
    good = bool(results)
    for module in modules:
        said = [v for m, v in results.items() if m.module == module]
        if not said:
            continue
        survived = said.count("survived")
        score = 100 * (len(said) - survived) / len(said)
        counts = f"{len(said):>8}{said.count('killed'):>8}{said.count('hung'):>6}{survived:>10}"
        print(f"{module:<12}{counts}{score:>7.1f}%")
        good = good and score >= score_min
    return good


def chosen(every: dict[str, list[Mutant]], count: int, seed: int) -> list[Mutant]:
    """A random sample of `count` in all, as many of each module where it has them; 0: every mutant."""
    share, generator, mutants = count // len(every), random.Random(seed), list[Mutant]()
    for of in every.values():
        some = of if not count or share >= len(of) else generator.sample(of, share)
        mutants += sorted(some, key=lambda m: (m.line, m.operator, m.occurrence))
    return mutants


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--mutants", type=int, default=0, help="a random sample of this many, shared by the modules; 0: all"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--module", action="append", choices=MODULES, help="only this module; may be repeated")
    parser.add_argument("--score", type=float, default=90.0, help="per cent that each module must reach")
    options = parser.parse_args()
    os.chdir(ROOT)
    modules = options.module or list(MODULES)
    every = {module: mutants_of(module) for module in modules}
    mutants = chosen(every, options.mutants, options.seed)
    print(f"{len(mutants)} of {sum(map(len, every.values()))} mutants of {', '.join(modules)}", flush=True)
    results: dict[Mutant, str] = {}

    def done(mutant: Mutant, said: str) -> None:
        if said == "void":
            return
        results[mutant] = said
        if said == "survived":
            print(
                f"survived: {mutant.shown()}  [{mutant.operator.removeprefix('core/')} {mutant.occurrence}]", flush=True
            )
        if len(results) % 100 == 0:
            print(f"  {len(results)} done, {list(results.values()).count('survived')} survived", flush=True)

    began = time.monotonic()
    if broken := run_all(mutants, done):
        print("tests fail without any mutant: " + ", ".join(broken[:5]))
        return 2
    good = report(results, modules, options.score)
    print(f"{time.monotonic() - began:.0f} s; each module must reach {options.score:g}%: {'ok' if good else 'FAILED'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
