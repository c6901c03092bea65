"""What the commands take from a pod's surroundings, and that options win over it."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from lockmaster.cli.connection import Target, connection_options


@click.command()
@connection_options
def _shown(target: Target) -> None:
    paths = [str(path or "") for path in (target.ca, target.cert, target.key, target.token)]
    click.echo("|".join([",".join(target.endpoints), *paths, "plain" if target.insecure else "TLS"]))


@pytest.fixture
def access(tmp_path: Path) -> Path:
    for name, text in (("token", "a.b.c"), ("ca.crt", "ca"), ("endpoints", "locks.infra.svc:7424"), ("other", "x")):
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "locks.infra.svc:7424|{0}/ca.crt|||{0}/token|TLS"),
        (["-e", "a:1"], "a:1|{0}/ca.crt|||{0}/token|TLS"),
        (["-e", "a:1", "--insecure"], "a:1|||||plain"),
        (["-e", "127.0.0.1:1"], "127.0.0.1:1|||||plain"),
        (["--token-file", "{0}/other", "--ca", "{0}/other"], "locks.infra.svc:7424|{0}/other|||{0}/other|TLS"),
        (["-e", "a:1", "--cert", "{0}/other", "--key", "{0}/other"], "a:1||{0}/other|{0}/other||TLS"),
    ],
)
def test_options_win_over_what_the_pod_was_given(access: Path, arguments: list[str], told: str) -> None:
    given = [argument.format(access) for argument in arguments]
    result = CliRunner().invoke(_shown, given, env={"LOCKMASTER_ACCESS_DIR": str(access)}, catch_exceptions=False)
    assert result.output.strip() == told.format(access)


@pytest.mark.parametrize("others", [["--cert", "{0}/other", "--key", "{0}/other"], ["--insecure"]])
def test_a_token_and_what_excludes_it_are_refused(access: Path, others: list[str]) -> None:
    given = ["-e", "a:1", "--token-file", f"{access}/token", *(other.format(access) for other in others)]
    result = CliRunner().invoke(_shown, given)
    assert "exclude each other" in result.output


def test_nowhere_in_particular_is_this_machine() -> None:
    result = CliRunner().invoke(_shown, [], env={"LOCKMASTER_ACCESS_DIR": "/nowhere"})
    assert result.output.strip() == "127.0.0.1:7420|||||plain"
