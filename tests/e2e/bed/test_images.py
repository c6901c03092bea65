"""Images: the names no kubelet pulls, and the builder's arguments."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import images
from .layout import BadName, Places


@pytest.mark.parametrize("name", ["localhost/app:1", "localhost/lockmaster/server:0.1.0-rc.1"])
def test_a_local_name_with_a_tag_is_taken(name: str) -> None:
    assert images.checked(name) == name


@pytest.mark.parametrize(
    "name", ["app:1", "localhost/app", "localhost/app:latest", "localhost/App:1", "example.com/app:1", ""]
)
def test_a_name_that_a_kubelet_would_pull_is_refused(name: str) -> None:
    with pytest.raises(BadName, match="localhost/PATH:TAG"):
        images.checked(name)


def test_a_build_names_its_file_stage_and_arguments_in_a_fixed_order() -> None:
    source = images.Dockerfile(Path("/app"), "deploy/Dockerfile", {"B": "2", "A": "1"}, "server")
    command = images.build_command("localhost/app:1", source, None)
    assert command[-9:] == [
        *("--build-arg", "A=1", "--build-arg", "B=2", "--target", "server"),
        *("--file", "/app/deploy/Dockerfile", "/app"),
    ]


def test_only_a_build_with_a_network_gets_the_hosts_authorities() -> None:
    offline = images.build_command("localhost/app:1", images.Dockerfile(Path("/app")), "/ca.crt")
    online = images.build_command("localhost/app:1", images.Dockerfile(Path("/app"), network=True), "/ca.crt")
    assert "--volume" not in offline
    assert online[online.index("--volume") + 1] == f"/ca.crt:{images.CA_BUNDLE}:ro"


def test_a_directory_without_a_dockerfile_is_named(tmp_path: Path) -> None:
    places = Places(tmp_path / "cache", tmp_path / "state")
    with pytest.raises(BadName, match=r"no .*/Dockerfile"):
        images.build(places, "localhost/app:1", images.Dockerfile(tmp_path))
