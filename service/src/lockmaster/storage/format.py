"""FORMAT: the file that says what wrote this data directory and what may open it (FORMAT.md §1)."""

from __future__ import annotations

import json
from typing import Final
from zlib import crc32

from lockmaster_raft.membership import LEVEL_MAX, LEVEL_MIN

from lockmaster.storage.errors import CorruptLog, WrongFormat
from lockmaster.storage.files import Files, replace_file

FORMAT_NAME: Final = "FORMAT"
FORMAT_VERSION: Final = 1


def write_format(files: Files, directory: str, min_binary_level: int = LEVEL_MIN) -> None:
    """Make FORMAT, durable with its name."""
    text = json.dumps({"format": FORMAT_VERSION, "min_binary_level": min_binary_level}, sort_keys=True)
    replace_file(files, directory, FORMAT_NAME, f"{text} {crc32(text.encode()):08x}\n".encode())


def check_format(files: Files, directory: str, level_max: int = LEVEL_MAX) -> int:
    """min_binary_level, if this binary may open the directory; WrongFormat or CorruptLog otherwise."""
    path = f"{directory}/{FORMAT_NAME}"
    line = files.read(path, 0, 4096)
    text, _, crc = line.rstrip(b"\n").rpartition(b" ")
    if crc != f"{crc32(text):08x}".encode() or not line.endswith(b"\n"):
        raise CorruptLog(f"{path}: checksum does not match")
    content = json.loads(text)
    if content["format"] != FORMAT_VERSION:
        raise WrongFormat(f"{path}: format {content['format']}; this binary reads {FORMAT_VERSION}")
    need: int = content["min_binary_level"]
    check_level(need, path, level_max)
    return need


def check_level(need: int, path: str, level_max: int = LEVEL_MAX) -> None:
    """WrongFormat if the directory needs a binary of a higher level than this one (raft.md §6)."""
    if need > level_max:
        raise WrongFormat(
            f"{path}: needs a binary of level {need} or newer; this one knows up to {level_max}: start the newer one "
            "(to go back, cancel the fence with it first: `lockmaster gate cancel`)"
        )
