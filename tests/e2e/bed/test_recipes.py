"""What the programs are built from: pinned versions, and a key that changes with anything that goes in."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from . import builds
from .recipes import PROGRAMS, BadModule, key_of, stamped, step_for, version_of

GO_MOD = b"module x\n\nrequire (\n\texample.dev/a/v3 v3.7.3\n\texample.dev/b v1.0.0 // indirect\n)\n"
PROGRAM = replace(PROGRAMS[0], folder="x", package="example.dev/a/v3", module="example.dev/a/v3")


def test_a_version_is_that_of_the_required_module() -> None:
    assert version_of(GO_MOD.decode(), "example.dev/a/v3") == "3.7.3"
    assert version_of("require helm.sh/helm/v4 v4.3.1\n", "helm.sh/helm/v4") == "4.3.1"
    with pytest.raises(BadModule, match=r"example\.dev/c"):
        version_of(GO_MOD.decode(), "example.dev/c")


def test_the_key_changes_with_a_source_a_flag_and_a_package() -> None:
    sources = {"go.mod": GO_MOD, "go.sum": b"1"}
    key = key_of(PROGRAM, sources, "3.7.3")
    assert key == key_of(PROGRAM, dict(reversed(sources.items())), "3.7.3")
    assert key != key_of(PROGRAM, {**sources, "go.sum": b"2"}, "3.7.3")
    assert key != key_of(PROGRAM, {**sources, "main.go": b""}, "3.7.3")
    assert key != key_of(replace(PROGRAM, stamps=()), sources, "3.7.3")
    assert key != key_of(replace(PROGRAM, package="example.dev/a/v3/x"), sources, "3.7.3")


def test_a_step_builds_exactly_what_its_directory_is_named_for() -> None:
    step = step_for(PROGRAM, {"go.mod": GO_MOD})
    assert re.fullmatch(r"kube-apiserver-3\.7\.3-[0-9a-f]{16}/kube-apiserver", step.path)
    command = step.command("go", "/out")
    assert command[-3:] == ("-o", "/out", "example.dev/a/v3")
    assert "-mod=readonly" in command


def test_programs_say_the_version_they_are() -> None:
    assert "-X k8s.io/component-base/version.gitVersion=v1.36.3" in stamped(PROGRAMS[0], "1.36.3")
    assert "-X k8s.io/component-base/version.gitMinor=36" in stamped(PROGRAMS[0], "1.36.3")


def test_every_program_of_this_checkout_has_a_pinned_version_and_sums() -> None:
    for step in builds.plan():
        sources = builds.sources_of(step.program.folder)
        assert step.version
        assert "go.sum" in sources or not step.program.module


def test_every_staging_module_is_replaced_by_the_version_of_the_release() -> None:
    go_mod = builds.sources_of("kubernetes")["go.mod"].decode()
    version = version_of(go_mod, "k8s.io/kubernetes")
    replaced = re.findall(r"^\t(?:replace )?k8s\.io/\S+ => k8s\.io/\S+ v(\S+)$", go_mod, re.MULTILINE)
    assert len(replaced) > 30
    assert set(replaced) == {"0" + version[1:]}
