"""`make setup` is quick where nothing changed, by whichever of its Pythons it is run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FINGERPRINT = "import runpy; print(runpy.run_path('tools/setup.py', run_name='setup')['fingerprint']())"


def fingerprint(python: Path) -> str:
    """What setup by this interpreter compares."""
    command = [str(python), "-c", FINGERPRINT]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_an_active_environment_and_its_base_interpreter_have_one_fingerprint(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    own = fingerprint(tmp_path / "venv" / "bin" / "python")
    base = Path(os.path.realpath(tmp_path / "venv" / "bin" / "python"))
    assert own == fingerprint(base) == fingerprint(Path(sys.executable))
