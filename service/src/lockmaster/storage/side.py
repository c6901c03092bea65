"""What a data directory holds of a state, if any: the file STATE, and the side directories of promotions.

`STATE` names the state directory, or says `none`: a witness has a log and no state. A promotion builds its state in
`side-<epoch>` beside the log (raft.md §4, P2 and P3); `sm_ready` in it, written last, says that it is whole. It becomes
the state when `STATE` names it (P4), so that no rename of an open database is needed.

Laws. A side directory counts only with `sm_ready`, and only while `STATE` says `none`. What nothing names is removed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from lockmaster.storage.errors import CorruptLog
from lockmaster.storage.files import Files, replace_file

STATE_NAME: Final = "STATE"
NO_STATE: Final = "none"
"""What STATE says where there is no state."""
SIDE_PREFIX: Final = "side-"
STATE_PREFIX: Final = "state-"
SM_READY: Final = "sm_ready"
_READY: Final = struct.Struct(">8sQQ")
_READY_MAGIC: Final = b"LMREADY\x01"


@dataclass(frozen=True, slots=True)
class ReadySide:
    """A whole side directory: of the promotion whose P1 has configuration epoch `epoch`, flushed up to `index`."""

    name: str
    epoch: int
    index: int


def write_state_name(files: Files, root: str, name: str) -> None:
    """Make STATE say `name`, durably; the old or the new after a crash."""
    replace_file(files, root, STATE_NAME, f"{name} {crc32(name.encode()):08x}\n".encode())


def state_name(files: Files, root: str) -> str:
    """What STATE says. Raises CorruptLog."""
    path = f"{root}/{STATE_NAME}"
    if not files.exists(path):
        raise CorruptLog(f"{path}: is missing; it names the state directory")
    name, _, crc = files.read(path, 0, 256).rstrip(b"\n").rpartition(b" ")
    if crc != f"{crc32(name):08x}".encode():
        raise CorruptLog(f"{path}: checksum does not match")
    return name.decode()


def state_number(name: str) -> int:
    """The number that a state or side directory's name ends with."""
    return int(name.rpartition("-")[2])


def following(name: str) -> str:
    """The name of the next state directory."""
    return f"{STATE_PREFIX}{state_number(name) + 1}"


def side_name(epoch: int) -> str:
    """The side directory of the promotion with this epoch."""
    return f"{SIDE_PREFIX}{epoch}"


def write_ready(files: Files, path: str, epoch: int, index: int) -> None:
    """Say durably that the state in this side directory is whole: flushed up to `index`."""
    body = _READY.pack(_READY_MAGIC, epoch, index)
    replace_file(files, path, SM_READY, body + crc32(body).to_bytes(4, "big"))


def clear_ready(files: Files, root: str) -> None:
    """Let no side directory count any more, durably."""
    for name in files.list_dir(root):
        path = f"{root}/{name}"
        if name.startswith(SIDE_PREFIX) and files.exists(f"{path}/{SM_READY}"):
            files.unlink(f"{path}/{SM_READY}")
            files.sync_dir(path)


def find_ready(files: Files, root: str) -> ReadySide | None:
    """The whole side directory with the highest epoch, or None. Raises CorruptLog."""
    found = [
        _read_ready(files, root, name)
        for name in files.list_dir(root)
        if name.startswith(SIDE_PREFIX) and files.exists(f"{root}/{name}/{SM_READY}")
    ]
    return max(found, key=lambda side: side.epoch, default=None)


def _read_ready(files: Files, root: str, name: str) -> ReadySide:
    path = f"{root}/{name}/{SM_READY}"
    data = files.read(path, 0, 256)
    if len(data) != _READY.size + 4 or crc32(data[:-4]) != int.from_bytes(data[-4:], "big"):
        raise CorruptLog(f"{path}: checksum does not match")
    magic, epoch, index = _READY.unpack(data[:-4])
    if magic != _READY_MAGIC or side_name(epoch) != name:
        raise CorruptLog(f"{path}: is not that of {name}")
    return ReadySide(name, epoch, index)


def state_directories(files: Files, root: str) -> list[str]:
    """Names of all directories that hold a state or part of one."""
    return [n for n in files.list_dir(root) if n.startswith((STATE_PREFIX, SIDE_PREFIX))]
