"""Binary streams: counted and hashed on their way, and turned from pushed into pulled."""

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
    """A binary stream that counts and hashes what passes through, in either direction.

    Once `stop` is set it takes no more, so that whoever writes in another thread comes to an end.
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
        """Read what is left, so that the digest is the whole file's."""
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
    """A readable stream of which the beginning was read already."""

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
    """Yield a file without a name, which a killed process cannot leave, on the disk of SEO_GEN_HOME."""
    with tempfile.TemporaryFile(dir=settings.HOME if settings.HOME.is_dir() else None) as file:
        yield cast(IO[bytes], file)


def copy_stream(source: IO[bytes], target: IO[bytes]) -> None:
    shutil.copyfileobj(source, target, CHUNK_BYTES)


@contextmanager
def piped(push: Callable[[IO[bytes]], None]) -> Iterator[IO[bytes]]:
    """Yield a stream to read what `push` writes, in a thread beside the block.

    At the block's end an error of `push` is raised, in preference to the block's own, which would only say that the
    stream ended early. A block that stops reading ends `push`.
    """
    reading, writing = os.pipe()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with open(writing, "wb", buffering=0) as target:
                push(target)
        except BrokenPipeError:
            pass  # the block had enough
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
    """Let an error of the block pass only where the thread, once it has ended, has none that explains it."""
    try:
        yield
    except Exception:
        thread.join(timeout=5)
        if not failures:
            raise
