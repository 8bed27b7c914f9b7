"""Confine programs with Linux's Landlock (5.13 and newer), so that they can write only to given folders. Needs no root.

Everything that a confined thread starts is confined too. Neither reading nor changing modes and owners is restricted.
See landlock(7); docs/adr/0010-point-in-time-recovery.md says what we use it for.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# The same numbers on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_PATH_BENEATH = 1
_SET_NO_NEW_PRIVS = 38
_WRITE_FILE, _REFER, _TRUNCATE = 1 << 1, 1 << 13, 1 << 14
# Removing files and folders, making them, and all other kinds of nodes.
_CHANGE_FOLDER = sum(1 << bit for bit in range(4, 13))
# The versions that added each right. Before those, moving between folders is always forbidden, and truncating is always
# allowed.
_REFER_VERSION, _TRUNCATE_VERSION, _NET_VERSION = 2, 3, 4
_TCP = 0b11  # to bind and to connect
# _RULESET: what is forbidden unless a rule allows it, for files and for the network. _RULE: what is allowed, and where.
_RULESET, _RULE = struct.Struct("=QQ"), struct.Struct("=Qi")
_NOWHERE = Path(os.devnull)


def version() -> int:
    """Return the version of the kernel's Landlock interface; 0 if it has none, or if we may not query it."""
    return max(0, _syscall(_CREATE_RULESET, None, 0, _ASK_VERSION))


def call_confined(function: Callable[[], T], writable: Sequence[Path]) -> T:
    """Call `function` in a thread that, with everything it starts, can write only below `writable` (and to /dev/null).

    Before version 3 of Landlock, it can still truncate files elsewhere. From version 4 on, it cannot bind or connect
    TCP sockets either. If the kernel has no Landlock, `function` is called unconfined. Raises `OSError` if a folder is
    missing, or the kernel refuses.
    """
    if not version():
        return function()
    with _ruleset(writable) as ruleset, ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(_confine_and_call, ruleset, function).result()


def _confine_and_call(ruleset: int, function: Callable[[], T]) -> T:
    """Confine this thread, and only this one, then call the function."""
    if _libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise _error()
    _require(_syscall(_RESTRICT_SELF, ruleset, 0))
    return function()


@contextmanager
def _ruleset(writable: Sequence[Path]) -> Iterator[int]:
    known = version()
    on_files = _WRITE_FILE | (_TRUNCATE if known >= _TRUNCATE_VERSION else 0)
    everything = on_files | _CHANGE_FOLDER | (_REFER if known >= _REFER_VERSION else 0)
    attributes = _RULESET.pack(everything, _TCP if known >= _NET_VERSION else 0)
    ruleset = _require(_syscall(_CREATE_RULESET, attributes, len(attributes), 0))
    try:
        for folder in writable:
            _allow(ruleset, folder, everything)
        _allow(ruleset, _NOWHERE, on_files)
        yield ruleset
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, access: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        _require(_syscall(_ADD_RULE, ruleset, _PATH_BENEATH, _RULE.pack(access, descriptor), 0))
    finally:
        os.close(descriptor)


_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _syscall(number: int, *arguments: int | bytes | None) -> int:
    as_words = (ctypes.c_long(one) if isinstance(one, int) else one for one in arguments)
    return int(_libc.syscall(ctypes.c_long(number), *as_words))


def _require(result: int) -> int:
    if result < 0:
        raise _error()
    return result


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
