"""Turns on the session's Valkey, under a queue name of the test's own, with limits and a clock that the test sets.

The product is imported inside the fixtures: pytest may load this file before Django is set up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from pytest_django import Settings

if TYPE_CHECKING:
    from tests.runs.turns.driving import Clock, Limits


@pytest.fixture(autouse=True)
def own_queue(settings: Settings) -> Iterator[str]:
    """Use keys of the test's own, and make this process forget earlier turns; delete the keys afterwards."""
    from runs.turns import store
    from tests.runs.turns.driving import begin_anew

    settings.CELERY_TASK_DEFAULT_QUEUE = f"turns-{uuid4().hex[:12]}"
    begin_anew()
    yield settings.CELERY_TASK_DEFAULT_QUEUE
    begin_anew()
    store.delete_keys("*")


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Limits:
    """Replace the control database's limits with a dictionary, keyed by the script's names for them, and return it.

    A test changes it before the first `take`.
    """
    from runs.turns import limits

    found = {"tenants": 48}
    monkeypatch.setattr(limits, "_read", lambda: iter(found.items()))
    return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the script's clock, which stands still until the test moves it."""
    from runs.turns import store
    from tests.runs.turns.driving import Clock

    made = Clock()
    monkeypatch.setattr(store, "clock", lambda: made.now_ms)
    # An opened breaker stays open exactly as long as set.
    monkeypatch.setattr("random.random", lambda: 0.5)
    return made
