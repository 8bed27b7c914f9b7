"""Nothing of an erased tenant is left in the keys of turns; installations and tests that share a server stay apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.conf import settings as django_settings
from pytest_django import Settings

from runs import turns
from runs.app_hooks import RunContents
from runs.turns import Outcome, enqueue, finish, take, why
from runs.turns.store import prefix
from tenants.erasure.delete import tenant_delete
from tenants.erasure.verify import erasures_verify
from tenants.errors import CacheUnavailable
from tenants.models import Tenant
from tests.runs.turns.driving import FAILED, OTHER_ROUTE, Limits, begin_anew, enqueued, take_all, taken, waiting
from tests.tenants.support.erased import forget_erasure


def everywhere() -> dict[str, object]:
    """Return this queue's keys of turns, without their prefix, and their values."""
    client: Any = redis.Redis.from_url(django_settings.CACHES["default"]["LOCATION"], decode_responses=True)
    read = {
        "string": client.get,
        "hash": client.hgetall,
        "set": client.smembers,
        "zset": lambda key: client.zrange(key, 0, -1),
    }
    keys = [key for key in client.scan_iter() if key.startswith(prefix())]
    return {key.removeprefix(prefix()): read[client.type(key)](key) for key in keys}


def naming(tenant_id: str) -> dict[str, object]:
    return {key: value for key, value in everywhere().items() if tenant_id in key or tenant_id in repr(value)}


def fill(tenant_id: str, limit: Limits) -> None:
    """Leave keys of each kind about the tenant: for waiting, delayed, started and failed steps, and for its limit."""
    limit[f"tenant:{tenant_id}"] = 3
    enqueued(tenant_id, 9, "broken/model")
    for _ in range(5):
        finish(taken(), FAILED)
    enqueued(tenant_id, 4)
    enqueued(tenant_id, 4, OTHER_ROUTE)
    enqueue(waiting(tenant_id), delay_s=3600)
    take_all()


def test_nothing_of_an_erased_tenant_is_left(tenant: Tenant, limit: Limits) -> None:
    fill(tenant.id, limit)
    neighbours = enqueued(f"{tenant.id}-neighbour", 2)
    begin_anew()
    assert {"inflight", "later", "served", "limits", f"tenant:{tenant.id}:routes"} <= naming(tenant.id).keys()
    assert RunContents().count_messages(tenant.id) == 4 + 4 + 4 + 1
    row = tenant_delete(tenant_id=tenant.id)
    left = {key for key in naming(tenant.id) if "neighbour" not in repr(everywhere()[key]) and "neighbour" not in key}
    assert left == set()
    assert not any(f'"{tenant.id}"' in repr(value) for value in everywhere().values())
    assert row.certificate is not None and row.certificate["erased"]["messages"] == 13
    [check] = erasures_verify(tenant_id=tenant.id)
    assert check.problems == []
    forget_erasure(row)
    assert [turn.waiting for turn in take_all()] == neighbours


def test_its_limits_are_not_handed_over_again(tenant: Tenant) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(max_concurrent_steps=2)
    enqueued("another")
    taken()
    assert naming(tenant.id).keys() == {"limits"}
    row = tenant_delete(tenant_id=tenant.id)
    begin_anew()
    take()
    assert naming(tenant.id) == {}
    forget_erasure(row)


def test_a_step_that_is_left_behind_is_a_problem(tenant: Tenant, limit: Limits) -> None:
    row = tenant_delete(tenant_id=tenant.id)
    enqueued(tenant.id)
    [check] = erasures_verify(tenant_id=tenant.id)
    assert check.problems == ["The queues still contain 1 message or step of the tenant."]
    turns.erase(tenant.id)
    forget_erasure(row)


def test_the_trial_of_a_broken_model_is_free_for_others_afterwards(limit: Limits, settings: Settings) -> None:
    settings.LLM_BREAKER_OPEN_S = 0.0
    enqueued("a", 9)
    for _ in range(5):
        finish(taken(), FAILED)
    assert len(take_all()) == 1
    [step] = enqueued("b")
    turns.erase("a")
    assert [turn.waiting for turn in take_all()] == [step]


@pytest.fixture
def without_server(settings: Settings) -> Iterator[None]:
    before = settings.CACHES
    settings.CACHES = {"default": {**before["default"], "LOCATION": "redis://127.0.0.1:9/1"}}
    yield
    settings.CACHES = before
    begin_anew()


@pytest.mark.usefixtures("without_server")
def test_an_erasure_needs_the_server() -> None:
    # Also the second time, at once: an operator's command always asks the server.
    for ask in (turns.erase, turns.count):
        with pytest.raises(CacheUnavailable, match=r"The cache cannot be used: ConnectionError\."):
            ask("a")


@pytest.mark.parametrize("name", ["CELERY_TASK_DEFAULT_QUEUE", "TENANT_DATABASE_PREFIX"])
def test_installations_that_share_a_server_stay_apart(name: str, limit: Limits, settings: Settings) -> None:
    limit["provider:openai:calls"] = 1
    own = getattr(settings, name)
    [step] = enqueued("a")
    setattr(settings, name, "other*")
    assert take().empty
    [others] = enqueued("a")
    assert taken().waiting == others
    assert turns.erase("a") == 1
    setattr(settings, name, own)
    assert why("a", step.run_id, step.step) is not None
    turn = taken()
    assert turn.waiting == step
    finish(turn, Outcome("ok"))
