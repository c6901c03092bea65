"""Why a member refuses its disk, each with the exit code that tells a supervisor what to do."""

from __future__ import annotations

from typing import Final

from lockmaster_raft.errors import CorruptLog, LevelUnsupported, StorageFailed

__all__ = [
    "Amnesia",
    "ChildNotStarted",
    "CorruptLog",
    "DirectoryBusy",
    "LevelUnsupported",
    "StorageFailed",
    "WrongFormat",
    "exit_code",
]


class Amnesia(StorageFailed):
    """The journal ends before the guard file's mark: what this member acknowledged is gone. Wipe it and join anew."""


class WrongFormat(StorageFailed):
    """The data directory was written by another format or needs a newer binary; nothing was changed."""


class DirectoryBusy(StorageFailed):
    """Another process holds the data directory."""


class ChildNotStarted(StorageFailed):
    """No process could be started for work on the data directory: a limit of processes, files or memory is reached."""


EXIT_STORAGE_FAILED: Final = 74
EXIT_CORRUPT: Final = 71
EXIT_AMNESIA: Final = 76
EXIT_WRONG_FORMAT: Final = 66
EXIT_BUSY: Final = 67


def exit_code(error: StorageFailed) -> int:
    """The process exit code for a storage error: 74 failed I/O, 71 corrupt, 76 amnesia, 66 format or level, 67 busy."""
    if isinstance(error, Amnesia):
        return EXIT_AMNESIA
    if isinstance(error, (WrongFormat, LevelUnsupported)):
        return EXIT_WRONG_FORMAT
    if isinstance(error, DirectoryBusy):
        return EXIT_BUSY
    if isinstance(error, CorruptLog):
        return EXIT_CORRUPT
    return EXIT_STORAGE_FAILED
