"""Compiled is what the sources are: same traces from same seeds, same hashes of golden logs, same tests, same finds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
COMPILED = ROOT / ".build" / "compiled"
NOT_POSSIBLE = 3
SEEDS = (1, 2, 3)
SPECIFICATION = "tests/raft/test_spec.py"
"""It watches the simulator by a checker of its own, which sources alone can be told to use."""
GOLDEN = "tests/compat/test_golden_statemachine.py"


def python(*arguments: str, compiled: bool, seconds: int = 600) -> str:
    """What it printed; the test fails with that if it failed."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if compiled:
        environment["PYTHONPATH"] = str(COMPILED)
    done = subprocess.run(
        (sys.executable, *arguments), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    command = (sys.executable, "tools/compile.py")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1400)
    if done.returncode == NOT_POSSIBLE:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def test_the_chosen_modules_are_compiled_and_all_others_are_there() -> None:
    chosen = ("lockmaster_raft.node", "lockmaster.statemachine.apply", "lockmaster.server.runtime")
    code = f"import importlib\nfor name in {(*chosen, 'lockmaster.cli.main')}:\n"
    code += "    print(importlib.import_module(name).__file__)"
    *compiled, main = python("-c", code, compiled=True).splitlines()
    assert [path.endswith(".so") for path in compiled] == [True] * len(chosen)
    assert main == str(COMPILED / "lockmaster/cli/main.py")


@pytest.mark.parametrize("application", ["register", "service"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_has_the_same_trace(seed: int, application: str) -> None:
    command = ("-m", "lockmaster_raft.testing", "run", "--seed", str(seed), "--application", application)
    assert python(*command, compiled=True) == python(*command, compiled=False)


LIAR = """
from lockmaster_raft.testing.cluster import Cluster
from lockmaster_raft.testing.register import RegisterApplication

class Around:
    def __init__(self, real):
        self.real = real
    def __getattr__(self, name):
        return getattr(self.real, name)

class Liar(Around):
    def state_hash(self):
        return self.real.state_hash() ^ id(self)

class Application(Around):
    def replica(self, contents, applied, term):
        return Liar(self.real.replica(contents, applied, term))

print(Cluster(1, Application(RegisterApplication())).run().failure)
"""


@pytest.mark.parametrize("compiled", [True, False])
def test_the_compiled_simulator_finds_what_is_wrong(compiled: bool) -> None:
    """A state machine that differs from member to member."""
    assert python("-c", LIAR, compiled=compiled).startswith("Violation: [S10 state hash]")


def test_core_state_machine_and_golden_logs_pass_their_tests_compiled() -> None:
    folders = ("tests/raft", "tests/service/statemachine", GOLDEN)
    python("-m", "pytest", "-q", *folders, f"--ignore={SPECIFICATION}", compiled=True)


def test_compiled_servers_and_sdk_pass_the_tests_of_real_processes() -> None:
    python("-m", "pytest", "-q", "tests/service/client", "tests/integration/test_kill.py", compiled=True)
