"""Which programs the bed is made of, and what each is built from: Go modules pinned by go.mod and go.sum. Pure.

The key of a program is a hash of everything that goes into it but the compiler, so the cache needs no clearing: a
changed version is another directory. Builds are `-trimpath` and without cgo: the same anywhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

BUILD_FLAGS = ("-mod=readonly", "-trimpath", "-buildvcs=false")
KEY_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Program:
    """One program: a package of the module in `programs/FOLDER`, whose version is that of the required MODULE.

    `stamps` are variables set by the linker; "{version}" and its parts stand for the version. `seconds` is how long a
    build took on two cores after the ones before it in PROGRAMS: for the progress lines.
    """

    name: str
    folder: str
    package: str
    module: str
    seconds: int
    stamps: tuple[str, ...] = ()


def kubernetes(name: str, seconds: int) -> Program:
    place = "k8s.io/component-base/version"
    stamps = tuple(
        f"{place}.{variable}={value}"
        for variable, value in (
            ("gitVersion", "v{version}"),
            ("gitMajor", "{major}"),
            ("gitMinor", "{minor}"),
            ("gitTreeState", "clean"),
        )
    )
    return Program(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", "k8s.io/kubernetes", seconds, stamps)


PROGRAMS = (
    # The first compiles what the others share.
    kubernetes("kube-apiserver", 360),
    kubernetes("kube-controller-manager", 130),
    kubernetes("kube-scheduler", 10),
    kubernetes("kubelet", 20),
    kubernetes("kubectl", 25),
    kubernetes("kube-proxy", 10),
    Program("etcd", "etcd", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3", 25),
    Program("coredns", "coredns", ".", "github.com/coredns/coredns", 60),
    Program("helm", "helm", "helm.sh/helm/v4/cmd/helm", "helm.sh/helm/v4", 130),
    Program("pause", "pause", ".", "", 1),
)
HELM_3 = Program("helm3", "helm3", "helm.sh/helm/v3/cmd/helm", "helm.sh/helm/v3", 130)
"""Not of the cluster: for the tests that the charts work with it, too."""


class BadModule(Exception):
    """A go.mod that doesn't require what its recipe says."""


def version_of(go_mod: str, module: str) -> str:
    """The required version of a module, without its v; "1" for "", a program of our own. Raises BadModule."""
    if not module:
        return "1"
    found = re.search(rf"^(?:require)?\s*{re.escape(module)} v(\S+)", go_mod, re.MULTILINE)
    if not found:
        raise BadModule(f"go.mod requires no {module}")
    return found[1]


def stamped(program: Program, version: str) -> str:
    """The linker's flags."""
    major, minor = [*version.split("."), "0"][:2]
    words = ["-s", "-w"]
    for stamp in program.stamps:
        words += ["-X", stamp.format(version=version, major=major, minor=minor)]
    return " ".join(words)


def key_of(program: Program, sources: Mapping[str, bytes], version: str) -> str:
    """A short hash of the program's recipe and of the files of its folder, by name."""
    digest = hashlib.sha256()
    for part in (program.name, program.package, *BUILD_FLAGS, stamped(program, version)):
        digest.update(part.encode() + b"\0")
    for name in sorted(sources):
        digest.update(name.encode() + b"\0" + sources[name] + b"\0")
    return digest.hexdigest()[:KEY_DIGITS]


@dataclass(frozen=True, slots=True)
class Step:
    """A program at a version: where the cache has it, and what builds it there."""

    program: Program
    version: str
    directory: str

    @property
    def path(self) -> str:
        """Below the cache's directory of programs."""
        return f"{self.directory}/{self.program.name}"

    def command(self, go: str, output: str) -> tuple[str, ...]:
        flags = (*BUILD_FLAGS, "-ldflags", stamped(self.program, self.version))
        return (go, "build", *flags, "-o", output, self.program.package)


def step_for(program: Program, sources: Mapping[str, bytes]) -> Step:
    """The step that a program's folder asks for. Raises BadModule."""
    version = version_of(sources["go.mod"].decode(), program.module)
    return Step(program, version, f"{program.name}-{version}-{key_of(program, sources, version)}")
