"""Tests marked `unit` fail if they need a server."""

import socket
from pathlib import Path

import psycopg
import pytest
from django.db import connections

from config import stack
from config.stack import process

pytestmark = pytest.mark.unit

MESSAGE = "may neither start nor ask a server"


def test_it_reaches_no_server() -> None:
    with pytest.raises(pytest.fail.Exception, match=MESSAGE):
        psycopg.connect("postgresql://127.0.0.1:9/x")
    with socket.socket() as wire, pytest.raises(pytest.fail.Exception, match=MESSAGE):
        wire.connect(("127.0.0.1", 9))
    with pytest.raises(RuntimeError, match="Database access not allowed"):
        connections["default"].ensure_connection()


def test_it_starts_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere.example/control")
    with pytest.raises(pytest.fail.Exception, match=MESSAGE):
        stack.ensure_started(stack.find_home(tmp_path / "home"))
    assert process.spawn.__module__ == "tests.support.alone"
