"""Limits for loading a dump: its size on disk, and the time without progress.

We cannot know what a dump will do until it runs: a statement could fill the disk or sleep forever, or the program that
loads the dump could hang. So a thread monitors the load from the maintenance database, and stops it if necessary.
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
# Any dump may use this much, however small the dump is: even an empty tenant database takes 8 MB.
SMALLEST_LIMIT_BYTES = 2**30
MEBIBYTE = 2**20


class LoadStopped(TenantError):
    """Loading a dump was stopped because it exceeded a limit or could no longer be monitored."""

    code = "load_stopped"


class LoadGuard:
    """Monitors the loading of one dump; created by `bounded_load`."""

    def __init__(self, scratch: Scratch, dump_bytes: int | None) -> None:
        # Why the load was stopped; "" if it was not stopped.
        self.reason = ""
        self._scratch = scratch
        self._dump_bytes = dump_bytes
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
        """Also kill this program if the load is stopped, since it may be what is hanging."""
        self._processes.append(process)

    def counted(self, source: IO[bytes]) -> IO[bytes]:
        """Return the stream, wrapped so that each byte read counts as progress."""
        return cast(IO[bytes], _Counted(source, self))

    def advance(self, count: int) -> None:
        self._read_bytes += count

    def limit_bytes(self) -> int | None:
        """Return how much the database may use on disk now; None if there is no limit."""
        if self._dump_bytes is None:
            return None
        # The size of what comes through a pipe is unknown, so what has been read of it counts.
        return max(SMALLEST_LIMIT_BYTES, settings.RESTORE_MAX_GROWTH * (self._dump_bytes or self._read_bytes))

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
            limit_bytes = self.limit_bytes()
            if limit_bytes is not None and now[1] > limit_bytes:
                self._end(
                    _(
                        "The loaded dump takes up more than %(limit)d MiB on disk, which is too much for a dump file"
                        " of its size (see the setting RESTORE_MAX_GROWTH)."
                    )
                    % {"limit": limit_bytes // MEBIBYTE}
                )
                return
            if time.monotonic() - since > settings.RESTORE_STALL_S:
                self._end(
                    _("Loading the dump made no progress for %(seconds)g s (see the setting RESTORE_STALL_S).")
                    % {"seconds": settings.RESTORE_STALL_S}
                )
                return

    def _progress(self, largest: int) -> tuple[int, int, object]:
        """Return (bytes read, peak bytes on disk, start of the newest statement); progress changes one of them."""
        size_bytes, begun = self._scratch.server_session.loaded(self._scratch.database, self._scratch.guest)
        return self._read_bytes, max(largest, size_bytes), begun

    def _end(self, reason: str) -> None:
        self.reason = reason
        # Kill the programs first: while one is alive, it could open another session.
        for process in self._processes:
            process.kill()
        with suppress(ServerError):  # an unreachable server has no sessions left to end
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
    """Monitor the block while it loads the scratch database; raise `LoadStopped` if it exceeds a limit.

    Also raises it if the server does not answer, since the load can then no longer be monitored.

    `dump_bytes` is the stored size of the dump, or 0 for a pipe: then what has been read of it counts. The database may
    use up to RESTORE_MAX_GROWTH times as much on disk, or 1 GiB if that is more. None, for a dump read straight from a
    recovered server, means no such limit. The load must not stall for longer than RESTORE_STALL_S.
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
