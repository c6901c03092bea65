"""Work on segment files that must hold up neither the loop nor the sync."""

from __future__ import annotations

import threading
from queue import SimpleQueue

from lockmaster.storage.errors import StorageFailed
from lockmaster.storage.files import Files


class Housekeeper:
    """One thread for what must not hold up the loop or the sync: preallocating the next segment, deleting old ones."""

    def __init__(self, files: Files, directory: str) -> None:
        self._files = files
        self._directory = directory
        self._work: SimpleQueue[tuple[str, int] | None] = SimpleQueue()
        self._prepared: SimpleQueue[tuple[str, int] | StorageFailed] = SimpleQueue()
        self.failure: StorageFailed | None = None
        self._thread = threading.Thread(target=self._run, name="lockmaster-segments", daemon=True)
        self._thread.start()

    def prepare(self, path: str, size: int) -> None:
        """Start to preallocate; taken by `take`."""
        self._work.put((path, size))

    def take(self) -> tuple[str, int]:
        """The preallocated segment, waiting for it if need be. Raises StorageFailed."""
        prepared = self._prepared.get()
        if isinstance(prepared, StorageFailed):
            raise prepared
        return prepared

    def delete(self, path: str) -> None:
        """Unlink, then sync the directory, so that segments go from the oldest end also across a crash."""
        self._work.put((path, -1))

    def close(self) -> None:
        """Finish what is queued and stop."""
        self._work.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            path, size = item
            try:
                if size >= 0:
                    self._files.create_zeroed(path, size)
                else:
                    self._files.unlink(path)
                self._files.sync_dir(self._directory)
            except StorageFailed as error:
                self.failure = error
            if size >= 0:
                self._prepared.put(self.failure or (path, size))
