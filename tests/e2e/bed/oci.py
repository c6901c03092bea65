"""Images as files, without a container engine: one OCI layout in a tar, the same bytes for the same content.

`ctr images import` takes it as it is. The writer knows layers made of single files and layers that exist as a tar.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = dict[str, Any]

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True, slots=True)
class Image:
    """What a container starts with. `name` has a registry part and a tag: "localhost/bed/pause:1"."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    architecture: str = "amd64"


def layer_of(files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> bytes:
    """A layer with these files, all executable, and these symbolic links: path without leading slash → content, target.

    The directories above them are in it too, readable by all.
    """
    output = io.BytesIO()
    everything = sorted({*files, *(links or {})})
    folders = sorted({str(p) for name in everything for p in Path(name).parents if str(p) != "."})
    with tarfile.open(fileobj=output, mode="w") as tar:
        for folder in folders:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name in everything:
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755
            if name in files:
                entry.size = len(files[name])
                tar.addfile(entry, io.BytesIO(files[name]))
            else:
                entry.type, entry.linkname = tarfile.SYMTYPE, (links or {})[name]
                tar.addfile(entry)
    return output.getvalue()


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def descriptor(kind: str, content: bytes, **more: object) -> Json:
    return {"mediaType": kind, "digest": digest_of(content), "size": len(content), **more}


def packed(value: Json) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def image_files(image: Image, layer: bytes) -> dict[str, bytes]:
    """The files of the OCI layout, by path."""
    container: Json = {"Cmd": list(image.command)}
    container["Env"] = [f"{key}={value}" for key, value in sorted(image.environment.items())]
    if image.user:
        container["User"] = image.user
    config = packed(
        {
            "architecture": image.architecture,
            "os": "linux",
            "config": container,
            # Uncompressed, so the layer's own hash is also that of its content.
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]},
            # buildah takes an image as a base only if its history names as many layers as it has.
            "history": [{"created_by": "lockmaster bed"}],
        }
    )
    manifest = packed(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, config),
            "layers": [descriptor(LAYER, layer)],
        }
    )
    named = {"io.containerd.image.name": image.name, "org.opencontainers.image.ref.name": image.name.rpartition(":")[2]}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(MANIFEST, manifest, annotations=named)]}
    files = {"oci-layout": packed({"imageLayoutVersion": "1.0.0"}), "index.json": packed(index)}
    for blob in (config, manifest, layer):
        files["blobs/sha256/" + digest_of(blob).removeprefix("sha256:")] = blob
    return files


def write_image(image: Image, layer: bytes, target: Path) -> None:
    """Writes the tar in one step: a reader sees the whole one or none."""
    draft = target.with_suffix(".new")
    draft.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(draft, "w") as tar:
        for name, content in sorted(image_files(image, layer).items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    draft.replace(target)
