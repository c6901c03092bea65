"""Images without a registry: from files, from a root file system, or from a Dockerfile; then put on nodes.

Names carry the registry part `localhost/`, and a tag other than `latest`: so no kubelet ever tries to pull one.
A Dockerfile is built by buildah without a daemon; all it mounts ends with it, all it stores lies in the cache.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from . import builds, host, machines, oci
from .configs import PAUSE_IMAGE
from .layout import BadName, Places
from .manifests import DNS_IMAGE

NAME = re.compile(r"localhost/[a-z0-9]+(?:[._/-][a-z0-9]+)*:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
TOOLBOX_IMAGE = "localhost/bed/toolbox:1"
"""A shell and its tools (busybox): what the bed's own tests run in pods."""
PYTHON_IMAGE = "localhost/bed/python:3.11"
"""Debian 12 with its Python: the base for Dockerfiles that take it as an argument."""
SUITE = "bookworm"
PYTHON_PACKAGES = ("python3-minimal", "libpython3-stdlib", "ca-certificates")
EXCLUDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
IMPORT_SECONDS = 300.0
BUILD_SECONDS = 1800.0
SOURCE_DATE = "0"
"""Time stamps of built files, in seconds since 1970: the same image on every machine and day."""


@dataclass(frozen=True, slots=True)
class Rootfs:
    """A root file system as one tar (made by mmdebstrap, say), and what runs in it."""

    tar: Path
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A build: its context, the file below it, its arguments, its stage. With `network`, RUN steps have the host's."""

    context: Path
    file: str = "Dockerfile"
    arguments: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    network: bool = False


def architecture() -> str:
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise host.Cannot(f"no images for {machine}: the bed knows {', '.join(sorted(ARCHITECTURES))}")
    return ARCHITECTURES[machine]


def checked(name: str) -> str:
    """The name, or BadName where a kubelet would try to pull it."""
    if not NAME.fullmatch(name) or name.endswith(":latest"):
        raise BadName(f"image name {name!r}: must be localhost/PATH:TAG in small letters, the tag not latest")
    return name


def own_images(places: Places, programs: Mapping[str, str]) -> list[Path]:
    """The tars of the images a cluster can't start without, from the cached programs."""
    wanted = [
        ("pause", PAUSE_IMAGE, ("/pause",)),
        ("coredns", DNS_IMAGE, ("/coredns",)),
    ]
    tars = []
    for program, name, command in wanted:
        path = Path(programs[program])
        tar = places.cache / "images" / f"{path.parent.name}.tar"
        if not tar.exists():
            content = (places.cache / "programs" / path).read_bytes()
            image = oci.Image(name, command, architecture=architecture())
            oci.write_image(image, oci.layer_of({program: content}), tar)
        tars.append(tar)
    return tars


def toolbox(places: Places) -> Path:
    """The tar of TOOLBOX_IMAGE, from Debian's busybox-static: fetched and unpacked, not installed."""
    tar = places.cache / "images" / "toolbox-1.tar"
    if tar.exists():
        return tar
    with tempfile.TemporaryDirectory() as folder:
        host.say("fetching Debian package busybox-static for the toolbox image")
        download = "apt-get -o APT::Sandbox::User=root -qq download busybox-static"
        host.run(("sh", "-c", f"cd {folder} && {download} && dpkg-deb -x *.deb out"), seconds=300)
        busybox = Path(folder, "out", "bin", "busybox")
        applets = host.run((str(busybox), "--list")).split()
        files = {"bin/busybox": busybox.read_bytes(), "etc/passwd": b"root:x:0:0::/:/bin/sh\n", "tmp/.keep": b""}
        links = {f"bin/{name}": "busybox" for name in applets if name != "busybox"}
        image = oci.Image(TOOLBOX_IMAGE, ("/bin/sh",), {"PATH": "/bin"}, architecture=architecture())
        oci.write_image(image, oci.layer_of(files, links), tar)
    return tar


def python_base(places: Places) -> Path:
    """The tar of PYTHON_IMAGE's root file system, made by mmdebstrap (half a minute) where the cache lacks it."""
    tar = places.cache / "images" / f"{SUITE}-python.rootfs.tar"
    if tar.exists():
        return tar
    host.require_tools(("mmdebstrap",))
    host.say(f"making the Python base image from Debian {SUITE}")
    tar.parent.mkdir(parents=True, exist_ok=True)
    draft = tar.with_name("draft.rootfs.tar")
    excluded = [f"--dpkgopt=path-exclude={path}" for path in EXCLUDED]
    command = ("mmdebstrap", "--mode=root", "--variant=apt", f"--include={','.join(PYTHON_PACKAGES)}", *excluded)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": SOURCE_DATE}
    host.run((*command, SUITE, str(draft)), seconds=BUILD_SECONDS, env=environment)
    draft.replace(tar)
    return tar


def buildah(places: Places, *arguments: str, network: bool = True) -> str:
    """One buildah command on the cache's store; in a mount namespace of its own, so nothing stays mounted.

    Its chroot isolation knows only the network around it: without `network` that is an empty namespace.
    """
    host.require_tools(("buildah",))
    store = places.cache / "buildah"
    places_ = ("--root", str(store / "root"), "--runroot", str(store / "run"), "--storage-driver", "overlay")
    unshare = ("unshare", "--mount", *(() if network else ("--net",)))
    return host.run((*unshare, "buildah", *places_, *arguments), seconds=BUILD_SECONDS)


def build_command(name: str, source: Dockerfile, trusted: str | None) -> list[str]:
    """The arguments of buildah. `trusted`: the host's CA bundle, for RUN steps with a network that ends TLS itself."""
    command = ["bud", "--isolation", "chroot", "--pull-never", "--layers", "--timestamp", SOURCE_DATE]
    command += ["--network", "host", "--tag", name]
    if source.network and trusted:
        command += ["--volume", f"{trusted}:{CA_BUNDLE}:ro"]
    for key, value in sorted(source.arguments.items()):
        command += ["--build-arg", f"{key}={value}"]
    if source.target:
        command += ["--target", source.target]
    return [*command, "--file", str(source.context / source.file), str(source.context)]


def build(places: Places, name: str, source: Rootfs | Dockerfile) -> Path:
    """The tar of an image, made anew. A Dockerfile may start FROM PYTHON_IMAGE.

    Raises BadName where there is no such file, Failed with the build's last lines.
    """
    tar = places.cache / "images" / (re.sub(r"[/:]", "_", checked(name)) + ".tar")
    tar.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, Rootfs):
        image = oci.Image(name, source.command, source.environment, source.user, architecture())
        oci.write_image(image, source.tar.read_bytes(), tar)
        return tar
    if not (source.context / source.file).is_file():
        raise BadName(f"no {source.context / source.file}: a directory with a Dockerfile is wanted")
    with host.locked(places.cache / "buildah.lock", "images"):
        ensure_python_base(places)
        trusted = CA_BUNDLE if Path(CA_BUNDLE).exists() else None
        buildah(places, *build_command(name, source, trusted), network=source.network)
        tar.unlink(missing_ok=True)
        buildah(places, "push", name, f"docker-archive:{tar}:{name}")
    return tar


def ensure_python_base(places: Places) -> None:
    """PYTHON_IMAGE in buildah's store."""
    if PYTHON_IMAGE in buildah(places, "images", "--format", "{{.Name}}:{{.Tag}}").split():
        return
    rootfs = Rootfs(python_base(places), ("/usr/bin/python3",), {"PATH": "/usr/local/bin:/usr/bin:/bin"})
    image = oci.Image(PYTHON_IMAGE, rootfs.command, rootfs.environment, architecture=architecture())
    with tempfile.TemporaryDirectory(dir=places.cache) as folder:
        tar = Path(folder, "python.tar")
        oci.write_image(image, rootfs.tar.read_bytes(), tar)
        pulled = buildah(places, "pull", f"oci-archive:{tar}").split()[-1]
        buildah(places, "tag", pulled, PYTHON_IMAGE)


def import_tar(places: Places, node: str, tar: Path) -> None:
    """Puts an image on a node, unless that very tar is there already."""
    notes = places.machine(node) / "images"
    notes.mkdir(exist_ok=True)
    note = notes / builds.digest_of(tar)
    if note.exists():
        return
    ctr = ("ctr", "-n", "k8s.io", "images", "import", "--snapshotter", "overlayfs", "-")
    command = machines.entered(places, node, *ctr)
    with tar.open("rb") as content:
        done = subprocess.run(command, stdin=content, capture_output=True, timeout=IMPORT_SECONDS, check=False)
    if done.returncode:
        raise host.Failed(f"import of {tar.name} on {node}: {done.stderr.decode().strip()}")
    note.touch()


def import_all(places: Places, nodes: Sequence[str], tars: Sequence[Path]) -> None:
    """Puts images on nodes, the nodes side by side. Raises Failed."""

    def one(node: str) -> None:
        for tar in tars:
            import_tar(places, node, tar)

    with ThreadPoolExecutor(len(nodes)) as pool:
        list(pool.map(one, nodes))
