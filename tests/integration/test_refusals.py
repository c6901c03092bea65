"""What a server refuses to start with: one clear line, an exit code, nothing written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from lockmaster import AsyncClient, InvalidRequest
from lockmaster.cli.local_cluster import LocalCluster
from lockmaster.cli.ports import free_ports


def serve(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    client, peer = free_ports(2)
    command = [sys.executable, "-m", "lockmaster.cli.main", "serve", "--name", "x", "--data-dir", str(directory)]
    defaults = ["--listen-client", f"127.0.0.1:{client}", "--listen-peer", f"127.0.0.1:{peer}"]
    return subprocess.run([*command, *defaults, *arguments], capture_output=True, text=True, timeout=30, check=False)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode not in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_a_directory_of_another_format_is_refused(cluster: LocalCluster) -> None:
    member = cluster.members[1]
    cluster.kill(member)
    path = member.directory / "FORMAT"
    before = path.read_bytes()
    path.write_bytes(before[:-4] + b"\xff\xff\xff\xff")
    assert "FORMAT" in one_line(serve(member.directory, "--insecure"))


def test_a_port_in_use_is_refused(cluster: LocalCluster, tmp_path: Path) -> None:
    taken = cluster.members[0].client_address
    line = one_line(serve(tmp_path / "new", "--insecure", "--bootstrap", "--listen-client", taken))
    assert taken in line


def test_a_directory_in_use_is_refused(cluster: LocalCluster) -> None:
    assert str(cluster.members[0].directory) in one_line(serve(cluster.members[0].directory, "--insecure"))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--listen-client", "0.0.0.0:7420", "--insecure"), "insecure"),
        (("--bootstrap",), "tls"),
        (("--insecure", "--bootstrap", "--profile", "slow"), "profile"),
        (("--insecure", "--listen-peer", "nowhere"), "listen"),
    ],
)
def test_wrong_settings_are_one_line_and_write_nothing(arguments: tuple[str, ...], word: str, tmp_path: Path) -> None:
    directory = tmp_path / "never"
    assert word in one_line(serve(directory, *arguments)).lower()
    assert not directory.exists()


async def test_an_oversize_value_is_named_and_loses_nothing(cluster: LocalCluster) -> None:
    async with AsyncClient(cluster.endpoints, insecure=True) as client:
        config = client.config("limits")
        revision = await config.put("k", b"small")
        with pytest.raises(InvalidRequest, match="value"):
            await config.put("k", b"x" * ((1 << 20) + 1))
        item = await config.get("k")
        assert item is not None
        assert (item.value, item.revision) == (b"small", revision)
