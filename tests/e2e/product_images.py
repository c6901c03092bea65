"""Images of the product for the bed: built from this checkout, kept in the bed's cache by what went into them."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
import zipfile
from functools import lru_cache
from pathlib import Path

from tools import image_context

from .bed import images
from .bed.cluster import Bed

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {
    "server": ("raft/src", "service/src", "service/Dockerfile", "constraints.txt"),
    "operator": ("raft/src", "service/src", "operator/src", "operator/Dockerfile", "constraints.txt"),
}


def fingerprint(part: str) -> str:
    """Ten hex digits of everything that goes into a part's image."""
    digest = hashlib.sha256()
    for source in SOURCES[part]:
        path = ROOT / source
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:10]


@lru_cache(maxsize=8)
def load(bed: Bed, part: str, version: str = "") -> str:
    """The image of a part on every node of the bed, built from this checkout where the cache lacks it; its name.

    `version`: the same program under the name of another release, for upgrades from N to N+1.
    """
    suffix = f"-{version}" if version else ""
    name = f"localhost/lockmaster/{part}:e2e-{fingerprint(part)}{suffix}"
    tar = bed.places.cache / "images" / (name.replace("/", "_").replace(":", "_") + ".tar")
    if tar.exists():
        images.import_all(bed.places, [node.name for node in bed.layout.nodes], [tar])
        return name
    for old in tar.parent.glob(f"localhost_lockmaster_{part}_e2e-*.tar"):
        if fingerprint(part) not in old.name:
            old.unlink()
    python = shutil.which("python3") or sys.executable
    with tempfile.TemporaryDirectory() as folder:
        context = image_context.make(part, Path(folder, part), python)
        if version:
            for package in ("lockmaster", "lockmaster_raft"):
                restamp(next((context / "wheels").glob(f"{package}-*.whl")), version)
        bed.load_image(name, images.Dockerfile(context, arguments={"BASE": images.PYTHON_IMAGE}))
    # The tar is what is kept: layers of every state of the checkout would fill the disk.
    images.buildah(bed.places, "rmi", "--force", name)
    images.buildah(bed.places, "rmi", "--prune", "--force")
    return name


def name_as(bed: Bed, image: str, version: str) -> str:
    """Gives an image that the nodes have the tag of a version, too, as a registry would; its repository."""
    repository = image.rpartition(":")[0]
    for node in bed.layout.nodes:
        bed.shell(node.name, "ctr", "-n", "k8s.io", "images", "tag", "--force", image, f"{repository}:{version}")
    return repository


def restamp(wheel: Path, version: str) -> Path:
    """The same wheel under another version; the file is replaced, its new path returned."""
    package, old, rest = wheel.name.split("-", 2)
    made = wheel.with_name(f"{package}-{version}-{rest}")
    before, after = f"{package}-{old}.dist-info/", f"{package}-{version}.dist-info/"
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            content = source.read(name)
            if name == f"{before}METADATA":
                content = content.replace(old.encode(), version.encode())
            elif name == f"{before}RECORD":
                content = content.replace(before.encode(), after.encode())
            target.writestr(name.replace(before, after), content)
    wheel.unlink()
    return made
