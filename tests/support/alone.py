"""Tests marked `unit` need no server, and fail if they start or use one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import psycopg
import pytest

from config.stack import process


@contextmanager
def without_servers() -> Iterator[None]:
    """Fail a test that opens a connection, or starts a server of the stack."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg, "connect", _refuse)
        patch.setattr(psycopg.Connection, "connect", _refuse)
        patch.setattr(socket.socket, "connect", _refuse)
        patch.setattr(socket.socket, "connect_ex", _refuse)
        patch.setattr(process, "spawn", _refuse)
        yield


def _refuse(*_arguments: object, **_keywords: object) -> NoReturn:
    pytest.fail("What is marked `unit` may neither start nor ask a server.")
