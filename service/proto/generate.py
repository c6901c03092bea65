"""Generates src/lockmaster/api from the protos beside this file; `--check` only says whether it is up to date."""

from __future__ import annotations

import argparse
import filecmp
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent / "src" / "lockmaster" / "api"
HEADER = '"""Generated from service/proto by `make generate`; never edited."""\n'
PACKAGE_IMPORT = re.compile(r"\bfrom lockmaster\.v1 import ")


def generate(into: Path) -> None:
    """Writes all stubs into `into`, with imports of package lockmaster.v1 turned into lockmaster.api."""
    protos = sorted(str(path) for path in HERE.glob("lockmaster/v1/*.proto"))
    with tempfile.TemporaryDirectory() as raw:
        outputs = [f"--{kind}={raw}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{HERE}", *outputs, *protos]
        subprocess.run(command, check=True)
        for path in sorted(Path(raw, "lockmaster", "v1").iterdir()):
            text = PACKAGE_IMPORT.sub("from lockmaster.api import ", path.read_text())
            (into / path.name).write_text(text)
    (into / "__init__.py").write_text(HEADER)


def main() -> int:
    """Generates, or with --check compares; exit code 1 if the checked-in stubs differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if out of date")
    if not parser.parse_args().check:
        TARGET.mkdir(exist_ok=True)
        generate(TARGET)
        return 0
    with tempfile.TemporaryDirectory() as fresh:
        generate(Path(fresh))
        names = {p.name for p in Path(fresh).iterdir()} | {p.name for p in TARGET.glob("*.py*")}
        _, differ, missing = filecmp.cmpfiles(fresh, TARGET, sorted(names), shallow=False)
    if differ or missing:
        print(f"generated stubs are out of date ({', '.join(differ + missing)}): run `make generate`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
