"""Binary streams: count and hash the bytes that pass through, and turn a writer into a readable stream."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, cast

from django.conf import settings

CHUNK_BYTES = 2**20


class Tally:
    """A binary stream that counts and hashes the bytes that pass through, in either direction.

    Once `stop` is set, writes raise `InterruptedError`; this ends a writer in another thread.
    """

    def __init__(self, stream: IO[bytes], stop: threading.Event | None = None) -> None:
        self._stream = stream
        self._stop = stop
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    def read(self, size: int = -1) -> bytes:
        return self._counted(self._stream.read(size))

    def write(self, data: bytes) -> int:
        if self._stop is not None and self._stop.is_set():
            raise InterruptedError
        self._stream.write(data)
        self._counted(data)
        return len(data)

    def flush(self) -> None:
        self._stream.flush()

    def drain(self) -> None:
        """Read the rest of the stream, so that the digest covers the whole file."""
        while self.read(CHUNK_BYTES):
            pass

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def _counted(self, data: bytes) -> bytes:
        self._digest.update(data)
        self.size_bytes += len(data)
        return data


class Peeked:
    """A readable stream that first returns the bytes that were already read from its source."""

    def __init__(self, beginning: bytes, rest: IO[bytes]) -> None:
        self._beginning = beginning
        self._rest = rest

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            taken, self._beginning = self._beginning + self._rest.read(), b""
        elif self._beginning:
            taken, self._beginning = self._beginning[:size], self._beginning[size:]
        else:
            taken = self._rest.read(size)
        return taken


@contextmanager
def collecting() -> Iterator[IO[bytes]]:
    """Yield an unnamed temporary file, in SEO_GEN_HOME if that exists; even a killed process leaves nothing behind."""
    with tempfile.TemporaryFile(dir=settings.HOME if settings.HOME.is_dir() else None) as file:
        yield cast(IO[bytes], file)


def copy_stream(source: IO[bytes], target: IO[bytes]) -> None:
    shutil.copyfileobj(source, target, CHUNK_BYTES)


@contextmanager
def piped(push: Callable[[IO[bytes]], None]) -> Iterator[IO[bytes]]:
    """Run `push` in a thread, and yield a stream from which its output can be read.

    An error in `push` is raised at the end of the block. It replaces the block's own error, which would only report
    that the stream ended early. If the block stops reading, `push` is ended.
    """
    reading, writing = os.pipe()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with open(writing, "wb", buffering=0) as target:
                push(target)
        except BrokenPipeError:
            pass  # the block stopped reading
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        with open(reading, "rb", buffering=0) as source, _explained(failures, thread):
            yield source
    finally:
        thread.join()
    if failures:
        raise failures[0]


@contextmanager
def _explained(failures: list[BaseException], thread: threading.Thread) -> Iterator[None]:
    """Propagate the block's error only if the thread has no error that explains it."""
    try:
        yield
    except Exception:
        thread.join(timeout=5)
        if not failures:
            raise
