"""A dump is loaded within limits: of bytes on disk, and of time in which nothing moves.

What a dump does is not known before it has done it: one statement may write until the disk is full, or sleep for ever,
or the program that reads it may freeze. A thread watches from the maintenance database and ends it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from subprocess import Popen
from typing import IO, cast

from django.conf import settings
from django.utils.translation import gettext as _

from tenants.errors import ServerError, TenantError
from tenants.restore.scratch_database import Scratch

INTERVAL_S = 1.0
# Whatever its size, a dump may fill this much: an empty database of ours has 8 MB.
SMALLEST_LIMIT_BYTES = 2**30
MEBIBYTE = 2**20


class LoadStopped(TenantError):
    """A dump was not loaded to its end, since it went beyond its limits."""

    code = "load_stopped"


class LoadGuard:
    """Watches the loading of one dump; `bounded_load` makes it."""

    def __init__(self, scratch: Scratch, dump_bytes: int | None) -> None:
        # Why it was ended, "" as long as it was not.
        self.reason = ""
        self._scratch = scratch
        self._limit_bytes = (
            None if dump_bytes is None else max(SMALLEST_LIMIT_BYTES, settings.RESTORE_MAX_GROWTH * dump_bytes)
        )
        self._processes: list[Popen[bytes]] = []
        self._read_bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def watch(self, process: Popen[bytes]) -> None:
        """End this program too where the limits are passed: it may be what stands still."""
        self._processes.append(process)

    def counted(self, source: IO[bytes]) -> IO[bytes]:
        """Return the stream; each byte that is read of it is progress."""
        return cast(IO[bytes], _Counted(source, self))

    def advance(self, count: int) -> None:
        self._read_bytes += count

    def _watch(self) -> None:
        progress: tuple[int, int, object] = (0, 0, None)
        since = time.monotonic()
        while not self._over.wait(INTERVAL_S):
            try:
                now = self._progress(progress[1])
            except ServerError as error:
                self._end(str(error))
                return
            if now != progress:
                progress, since = now, time.monotonic()
            if self._limit_bytes is not None and now[1] > self._limit_bytes:
                self._end(
                    _("The dump fills more than %(limit)d MiB on disk, which no dump of its size should.")
                    % {"limit": self._limit_bytes // MEBIBYTE}
                )
                return
            if time.monotonic() - since > settings.RESTORE_STALL_S:
                self._end(
                    _("Nothing has moved for %(seconds)g s while the dump was being loaded.")
                    % {"seconds": settings.RESTORE_STALL_S}
                )
                return

    def _progress(self, largest: int) -> tuple[int, int, object]:
        """Return what only ever rises: bytes read, the most that were on disk, when the newest statement began."""
        size_bytes, begun = self._scratch.server_session.loaded(self._scratch.database, self._scratch.guest)
        return self._read_bytes, max(largest, size_bytes), begun

    def _end(self, reason: str) -> None:
        self.reason = reason
        # First the programs: one that is alive could begin another session.
        for process in self._processes:
            process.kill()
        with suppress(ServerError):  # a server that is away has ended them
            self._scratch.server_session.end_guest(self._scratch.guest)


class _Counted:
    def __init__(self, source: IO[bytes], guard: LoadGuard) -> None:
        self._source = source
        self._guard = guard

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._guard.advance(len(data))
        return data


@contextmanager
def bounded_load(scratch: Scratch, dump_bytes: int | None) -> Iterator[LoadGuard]:
    """Watch what the block loads into the scratch database; raise `LoadStopped` where the limits were passed.

    `dump_bytes` is the size of the dump as it is stored, which limits what it may fill on disk (RESTORE_MAX_GROWTH);
    None for one that is read from a server of ours. Nothing may stand still for longer than RESTORE_STALL_S.
    """
    guard = LoadGuard(scratch, dump_bytes)
    guard.start()
    try:
        try:
            yield guard
        finally:
            guard.stop()
    except Exception as error:
        if guard.reason:
            raise LoadStopped(guard.reason) from error
        raise
    if guard.reason:
        raise LoadStopped(guard.reason)
