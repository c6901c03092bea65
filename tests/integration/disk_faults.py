"""The LD_PRELOAD shim of disk_faults.c: built where there is a C compiler, and switched while the process runs."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("disk_faults.c")
COMPILERS: Final = ("cc", "gcc", "clang")
CONTROL_BYTES: Final = 4096
_CONTROL: Final = struct.Struct("=IIqqII1024s")
_HITS: Final = struct.Struct("=q")
_HITS_AT: Final = 16
_MASK: Final = struct.Struct("=I")


class Fault(IntFlag):
    """What fails; the numbers are disk_faults.c's."""

    READ = 1
    WRITE = 2
    SYNC = 4
    """fsync, fdatasync, and writes on O_DSYNC descriptors: the bytes are in the page cache, the call says no."""
    SHORT = 8
    """Half of a write is written, and the call says so."""
    SLOW = 16
    KILL = 32
    """With one of the others: the process and its children are killed right there, instead."""
    RENAME = 64
    """Before a rename to such a path; only with KILL, as the next two."""
    RENAMED = 128
    """After one."""
    UNLINK = 256
    """Before such a path is removed."""


def build_shim(directory: Path) -> Path | None:
    """The compiled shim, or None where there is no C compiler. Raises CalledProcessError if it does not compile."""
    compiler = next((found for name in COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        return None
    built = directory / "disk_faults.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(built), str(SOURCE), "-ldl"], check=True)
    return built


@dataclass(frozen=True, slots=True)
class DiskFaults:
    """The switch of one process's shim."""

    shim: Path
    control: Path

    @classmethod
    def make(cls, shim: Path, control: Path) -> DiskFaults:
        """A switch that is off."""
        control.write_bytes(bytes(CONTROL_BYTES))
        return cls(shim, control)

    @property
    def environment(self) -> dict[str, str]:
        """What the process must be started with."""
        return {"LD_PRELOAD": str(self.shim), "DISK_FAULTS_CONTROL": str(self.control)}

    def arm(
        self, fault: Fault, fragment: str, *, error: int = errno.EIO, countdown: int = 0, delay_us: int = 0
    ) -> None:
        """From the call after the next `countdown` ones on, files with `fragment` in their path fail so."""
        with self.control.open("r+b") as file:
            file.write(_CONTROL.pack(0, error, countdown, 0, delay_us, 0, fragment.encode()))
            file.flush()
            os.pwrite(file.fileno(), _MASK.pack(fault), 0)  # last: the rest is in place by then

    def disarm(self) -> None:
        """Nothing fails any more."""
        with self.control.open("r+b") as file:
            os.pwrite(file.fileno(), _MASK.pack(0), 0)

    @property
    def hits(self) -> int:
        """Calls that failed (or were slowed) since `arm`."""
        found: int = _HITS.unpack_from(self.control.read_bytes(), _HITS_AT)[0]
        return found
