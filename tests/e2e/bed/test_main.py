"""The bed's words: what is ours, what another program's, and the exit code of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import __main__ as shell
from . import host


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test here finds a cluster that this machine has."""
    monkeypatch.setenv("LOCKMASTER_BED_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("LOCKMASTER_BED_CACHE", str(tmp_path / "cache"))


def test_kubectls_own_words_stay_as_they_are() -> None:
    arguments = shell.parsed(["kubectl", "-n", "kube-system", "get", "pods", "--help"])
    assert (arguments.verb, arguments.command) == ("kubectl", ["-n", "kube-system", "get", "pods", "--help"])


def test_a_command_on_a_machine_keeps_its_options() -> None:
    arguments = shell.parsed(["sh", "n1", "ls", "-l"])
    assert (arguments.machine, arguments.command) == ("n1", ["ls", "-l"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "required: VERB"),
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["off"], "required: node"),
        (["stop", "kubelet", "n1", "more"], "unrecognized arguments: more"),
        (["sh"], "required: machine"),
    ],
)
def test_wrong_words_are_2_and_name_what_is_wanted(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        shell.main(words)
    assert ended.value.code == host.EXIT_USAGE
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LOCKMASTER_BED_NODES", "0"),
        ("LOCKMASTER_BED_NAME", "Upper"),
        ("LOCKMASTER_BED_NETWORK", "8.8.8"),
        ("LOCKMASTER_BED_STATE", "/run/bed-state"),
    ],
)
def test_a_wrong_setting_is_2_and_named(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, value)
    assert shell.main(["up"]) == host.EXIT_USAGE
    assert variable in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["status"], ["mend"], ["kubectl", "get", "nodes"], ["off", "n1"], ["load", "x", "."]]
)
def test_without_a_cluster_one_line_says_how_to_get_one(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.main(words) == host.EXIT_FAILED
    assert capsys.readouterr().err == "bed: no cluster of the name lmbed: make cluster brings it up\n"


@pytest.mark.parametrize(("platform", "user", "says"), [("darwin", 0, "Linux"), ("linux", 1000, "root")])
@pytest.mark.parametrize("verb", ["up", "down"])
def test_a_machine_that_cant_hold_a_cluster_is_77_and_one_line(
    verb: str,
    platform: str,
    user: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr("os.geteuid", lambda: user)
    assert shell.main([verb]) == host.EXIT_CANNOT
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
