"""Images written without a container engine: the layout is whole, and the same for the same content."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

from . import oci

IMAGE = oci.Image("localhost/bed/x:1", ("/x",), {"B": "2", "A": "1"}, user="10001")


def test_every_blob_is_named_by_its_hash_and_reached_from_the_index() -> None:
    layer = oci.layer_of({"x": b"program"})
    files = oci.image_files(IMAGE, layer)
    blobs = {name.rpartition("/")[2]: content for name, content in files.items() if name.startswith("blobs/")}
    assert all(hashlib.sha256(content).hexdigest() == name for name, content in blobs.items())
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == "localhost/bed/x:1"
    manifest = json.loads(blobs[entry["digest"].removeprefix("sha256:")])
    config = json.loads(blobs[manifest["config"]["digest"].removeprefix("sha256:")])
    assert blobs[manifest["layers"][0]["digest"].removeprefix("sha256:")] == layer
    assert config["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]]
    assert config["config"] == {"Cmd": ["/x"], "Env": ["A=1", "B=2"], "User": "10001"}


def test_a_layer_has_the_folders_above_its_files_and_its_links() -> None:
    layer = oci.layer_of({"bin/busybox": b"b"}, {"bin/sh": "busybox"})
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        entries = {entry.name: entry for entry in tar}
    assert entries["bin"].isdir()
    assert entries["bin/busybox"].mode == 0o755
    assert entries["bin/sh"].linkname == "busybox"


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        oci.write_image(IMAGE, oci.layer_of({"x": b"1", "y/z": b"2"}), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
