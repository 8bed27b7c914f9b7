"""The cache holds JSON: someone who can write to it can neither run code here nor make reads fail."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from django.conf import settings
from django.core.cache import cache, caches
from pytest_django import Settings

from config.base.redis_cache import primary_client
from tests.runs.messages.malformed import Planted, broken_bytes

VALUES = [None, True, 0, -5, 2**70, 1.5, "日本", "", [1, ["a"]], {"a": {"b": None}}]


@pytest.fixture
def key() -> Iterator[str]:
    made = f"test-{uuid4()}"
    yield made
    cache.delete(made)


@pytest.fixture
def server() -> Iterator[Any]:
    with redis.Redis.from_url(settings.CACHES["default"]["LOCATION"]) as client:
        yield client


@pytest.mark.parametrize("value", VALUES)
def test_json_values_round_trip(key: str, value: object, server: Any) -> None:
    cache.set(key, value, 60)
    found = cache.get(key, "nothing")
    assert (found, type(found)) == (value, type(value))
    assert cache.get_many([key]) == {key: value}
    assert json.loads(server.get(cache.make_key(key))) == value


def test_numbers_are_counted(key: str) -> None:
    cache.set(key, 41)
    assert (cache.incr(key), cache.get(key)) == (42, 42)
    assert cache.add(key, 1) is False and cache.get_or_set(key, 7) == 42


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, object(), uuid4()])
def test_a_value_without_json_form_is_rejected_on_write(key: str, value: object) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        cache.set(key, value)
    assert cache.get(key) is None


def test_a_planted_pickle_is_not_executed(key: str, server: Any, tmp_path: Path) -> None:
    planted = tmp_path / "executed"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        server.set(cache.make_key(key), pickle.dumps(Planted(str(planted)), protocol))
        assert cache.get(key, "nothing") == "nothing"
    assert not planted.exists()


@pytest.mark.parametrize(
    "value", [raw for raw in broken_bytes() if raw not in (b"null", b"17", b'"text"', b"[]", b"{}")]
)
def test_a_malformed_value_is_a_miss(key: str, server: Any, value: bytes) -> None:
    server.set(cache.make_key(key), value)
    found = cache.get(key, "nothing")
    # Some malformed messages are valid JSON.
    assert found == "nothing" or json.loads(value) == found


def test_no_configured_cache_unpickles() -> None:
    assert {type(caches[alias]).__name__ for alias in settings.CACHES} == {"JSONCache"}


def test_a_client_uses_the_first_of_several_addresses(key: str, settings: Settings) -> None:
    """The cache writes to the first address, too; the others are replicas."""
    cache.set(key, 1)
    location = settings.CACHES["default"]["LOCATION"]
    for between in (",", ";"):
        several = f"{location}{between}redis://127.0.0.1:9/0"
        settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": several}}
        client = primary_client(answer_s=5)
        assert client.exists(cache.make_key(key))
        client.close()
