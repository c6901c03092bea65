"""What `pip install lockmaster` gives: wheels at the stated version, and a client that needs no server part."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from .tree import ROOT

VERSION = "0.2.0.dev0"
UV = shutil.which("uv") or str(ROOT / ".build" / "uv" / "bin" / "uv")
SERVER_ONLY = (
    "rocksdict",
    "uvloop",
    "pydantic",
    "pydantic_settings",
    "lockmaster_raft",
    "opentelemetry.sdk",
    "grpc_reflection",
)

# Stands in for an environment without the extra: these modules can't be found.
WITHOUT_EXTRA = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if any(name == m or name.startswith(m + ".") for m in {SERVER_ONLY!r}):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
"""


def run_without_extra(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", WITHOUT_EXTRA + code], capture_output=True, text=True, check=False)


def test_client_imports_without_the_server_extra() -> None:
    answer = run_without_extra("import lockmaster; from lockmaster import AsyncClient, Client")
    assert (answer.returncode, answer.stderr) == (0, "")


@pytest.mark.parametrize("command", ["serve", "dev", "demo"])
def test_server_command_without_the_extra_says_what_to_install(command: str) -> None:
    code = f"import sys; from lockmaster.cli.main import main; sys.argv = ['lockmaster', {command!r}]; main()"
    answer = run_without_extra(code)
    assert answer.returncode == 2
    assert "lockmaster[server]" in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1


def test_command_line_help_works_without_the_server_extra() -> None:
    code = "import sys; from lockmaster.cli.main import main; sys.argv = ['lockmaster', '--help']; main()"
    assert run_without_extra(code).returncode == 0


@pytest.mark.parametrize("folder", ["raft", "service", "operator"])
def test_version_is_the_changelogs(folder: str) -> None:
    stated = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]["version"]
    newest = re.findall(r"^## \[?(\d+\.\d+\.\d+[.\w]*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    assert stated == newest == VERSION


@pytest.mark.parametrize(
    ("folder", "package"), [("raft", "lockmaster_raft"), ("service", "lockmaster"), ("operator", "lockmaster_operator")]
)
def test_wheel_builds_and_holds_the_package(folder: str, package: str, tmp_path: Path) -> None:
    subprocess.run(
        [UV, "build", "--wheel", "--out-dir", str(tmp_path), str(ROOT / folder)], check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"{package}-{VERSION}-py3-none-any.whl"
    names = zipfile.ZipFile(wheel).namelist()
    assert f"{package}/py.typed" in names
    assert f"{package}-{VERSION}.dist-info/licenses/LICENSE" in names
    assert not [name for name in names if not name.startswith((f"{package}/", f"{package}-{VERSION}.dist-info/"))]
