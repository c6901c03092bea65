"""The pure parts of the scenarios: what a load saw, the report, a wheel of another version. No Kubernetes needed."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from .bed import host
from .kubernetes import Context
from .load import PROGRAM, Seen, parsed, percentile
from .product_images import ROOT, restamp
from .quick_start import PROMOTED, RECORD, RESTORED, Shell, commands_of, page_of, recorded_commands, watched, watches
from .report import Report
from .test_sigkill import failed

LOG = """holds 7
puts [1.0, 1.1, 1.5]
puts [1.6]
done {"held": true, "token": 7, "locks": 3, "failures": [], "lost": ["key-1: 2 was acknowledged, 1 is there"]}
"""


def test_the_load_is_a_program() -> None:
    compile(PROGRAM, "load", "exec")


def test_a_loads_log_is_read_and_its_gaps_counted_where_they_end() -> None:
    seen = parsed(LOG)
    assert (seen.locks, seen.lost[0][:5], seen.held) == (3, "key-1", True)
    assert seen.worst() == pytest.approx(0.4)
    assert seen.worst(1.55) == pytest.approx(0.1)
    assert seen.worst(0, 1.2) == pytest.approx(0.1)
    assert Seen((), 0, (), (), True).worst() == 0.0


def test_a_load_that_has_not_ended_is_no_success() -> None:
    with pytest.raises(ValueError, match="not ended"):
        parsed("holds 7\nTraceback")


def test_a_failed_operation_is_told_with_the_run_before_it() -> None:
    kills = [(10.0, "leader    fetching   fetching   9.0"), (20.0, "witness   opening    opening   7.0")]
    assert failed(kills, ["9.50 put: early", "12.25 put: no quorum", "21.00 lock: late"]) == [
        "before them             0.0 s after the kill  put: early",
        "leader fetching         2.2 s after the kill  put: no quorum",
        "witness opening         1.0 s after the kill  lock: late",
    ]


def test_percentiles() -> None:
    assert (percentile([], 0.99), percentile([3, 1, 2], 0.5), percentile(range(100), 0.99)) == (0.0, 2, 99)


def test_the_report_names_goals_that_were_not_measured_and_sums_what_loads_counted() -> None:
    report = Report()
    assert report.lines() == []
    report.results["drain"] = ("passed", 12.34)
    report.note("drain", "a word")
    report.operations(1_000, 0, 0)
    report.operations(500, 1, 2)
    lines = "\n".join(report.lines())
    assert "drain  passed      12.3  a word" in lines
    assert "lost writes                               1 of 1,500" in lines
    assert "helm install to Ready                     not measured" in lines
    with pytest.raises(ValueError, match="no figure of the report"):
        report.figure("speed", "1")


def test_a_wheel_of_another_version_names_it_in_file_folder_and_metadata(tmp_path: Path) -> None:
    wheel = tmp_path / "lockmaster-0.2.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("lockmaster/a.py", "x = '0.2.0'")
        archive.writestr("lockmaster-0.2.0.dist-info/METADATA", "Version: 0.2.0\nRequires-Dist: lockmaster-raft==0.2.0")
        archive.writestr("lockmaster-0.2.0.dist-info/RECORD", "lockmaster-0.2.0.dist-info/METADATA,,")
    made = restamp(wheel, "0.3.0")
    assert (made.name, wheel.exists()) == ("lockmaster-0.3.0-py3-none-any.whl", False)
    with zipfile.ZipFile(made) as archive:
        told = archive.read("lockmaster-0.3.0.dist-info/METADATA").decode()
        assert told == "Version: 0.3.0\nRequires-Dist: lockmaster-raft==0.3.0"
        assert archive.read("lockmaster-0.3.0.dist-info/RECORD").startswith(b"lockmaster-0.3.0.dist-info/")
        assert archive.read("lockmaster/a.py") == b"x = '0.2.0'"


def test_a_users_cluster_without_named_images_is_skipped_with_the_variable_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("kubectl", "helm"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("E2E_SERVER_IMAGE", raising=False)
    with pytest.raises(host.Cannot, match="E2E_SERVER_IMAGE"):
        Context("kind").image("server")
    monkeypatch.setenv("E2E_SERVER_IMAGE", "registry:5000/lockmaster/server:1")
    assert Context("kind").image("server") == "registry:5000/lockmaster/server:1"
    monkeypatch.setenv("PATH", "")
    with pytest.raises(host.Cannot, match="kubectl and helm"):
        Context("kind")


README = """# A
## On Kubernetes
Words.
```
export A=x B=y
kubectl get lkc -w
```
More words, then:
```
echo $A
```

## After it
```
not this
```
"""


def test_the_quick_starts_commands_are_the_lines_of_its_blocks_and_come_back_from_the_recorded_page() -> None:
    commands = ["export A=x B=y", "kubectl get lkc -w", "echo $A"]
    assert commands_of(README) == commands
    assert [watches(command) for command in commands] == [False, True, False]
    page = page_of([(command, "a line\n" if command.startswith("echo") else "") for command in commands])
    assert page.endswith("```console\n$ export A=x B=y\n$ kubectl get lkc -w\n$ echo $A\na line\n```\n")
    assert recorded_commands(page) == commands
    with pytest.raises(ValueError, match="On Kubernetes"):
        commands_of("# A\n## Another\n")


def test_the_recorded_quick_start_is_that_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert recorded_commands((ROOT / RECORD).read_text()) == commands_of(readme)


def test_a_quick_starts_exports_last_and_placeholders_are_given_names(tmp_path: Path) -> None:
    shell = Shell(tmp_path, tmp_path / "kubeconfig", {}, {"A": "named"})
    shell.run("export A=x B=y")
    assert shell.run("echo $A $B; pwd") == f"named y\n{tmp_path}\n"
    assert [command for command, _ in shell.steps] == ["export A=x B=y", "echo $A $B; pwd"]
    with pytest.raises(host.Failed, match="exit code 3"):
        shell.run("exit 3")


def test_a_watch_is_ended_by_the_row_that_is_waited_for(tmp_path: Path) -> None:
    rows = (
        "NAME    READY   FULL   WITNESS\nlocks   True    2      1\nlocks   False   1      1\nlocks   False   2      0\n"
    )
    file = tmp_path / "rows"
    file.write_text(rows)
    assert watched(f"tail -n +1 -f {file}", tmp_path, {}, PROMOTED) == rows
    assert watched(f"tail -n +1 -f {file}", tmp_path, {}, RESTORED) == "".join(rows.splitlines(keepends=True)[:2])
    with pytest.raises(host.Failed, match="no row matched"):
        watched(f"cat {file}", tmp_path, {}, "never")
