"""Fixtures for runs: real databases, broker and storage, and a fake paid provider that gives prepared answers.

Models are imported inside the fixtures: pytest may load this file before Django is set up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from pytest_django import Settings

from tests.llm.wire import allow_server
from tests.runs.fake_llm import FakeLLM
from tests.support.s3 import S3Server

if TYPE_CHECKING:
    from runs.models import Run
    from tenants.models import Tenant

PROVIDER = "openai"
STEPS = ("keyword_analysis", "outline", "draft", "final")


@pytest.fixture
def fake_llm(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLLM]:
    """Yield a fake that stands in for the provider "openai", at a local address."""
    with fake_provider(monkeypatch) as fake:
        yield fake


@contextmanager
def fake_provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLLM]:
    """Point the provider "openai" at a fake, and yield the fake; restore the provider's address afterwards.

    `monkeypatch` later removes the key and the permission to connect.
    """
    from llm.models import LLMProvider

    fake = FakeLLM()
    provider = LLMProvider.objects.filter(pk=PROVIDER)
    before = provider.get().api_base_url
    provider.update(api_base_url=fake.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    allow_server(fake.url, monkeypatch)
    try:
        yield fake
    finally:
        provider.update(api_base_url=before)
        fake.close()


@pytest.fixture
def make_run(fake_llm: FakeLLM) -> Callable[..., Run]:
    """Return a function that creates a run whose steps call the fake provider; `config` goes into its configuration."""
    from runs.services.create import run_create

    def make(tenant: Tenant, *, steps: tuple[str, ...] = STEPS, **config: object) -> Run:
        models = {step: {"provider": PROVIDER, "model_class": "standard"} for step in steps}
        document = {"keyword": "coffee grinder", "language": "en", "steps": list(steps), "models": models, **config}
        return run_create(tenant_id=tenant.pk, config=document)

    return make


@pytest.fixture
def run(tenant: Tenant, make_run: Callable[..., Run]) -> Run:
    return make_run(tenant)


@pytest.fixture(autouse=True)
def broker_queue(request: pytest.FixtureRequest) -> Iterator[None]:
    """Empty the session's queue and the queues of turns before and after each test that is not marked `unit`."""
    if request.node.get_closest_marker("unit") is not None:
        yield
        return
    _empty_queues()
    yield
    _empty_queues()


def _empty_queues() -> None:
    """Remove all messages and waiting steps.

    A worker would otherwise use this test's messages to execute the steps of an earlier test.
    """
    from celery import current_app

    from runs.turns.store import delete_keys

    current_app.control.purge()
    delete_keys("*")


@pytest.fixture
def short_lease(settings: Settings) -> None:
    settings.RUN_LEASE_S = 0.3


@pytest.fixture
def s3(s3_server: S3Server, settings: Settings) -> S3Server:
    """Store artifacts in a bucket, and return its server."""
    options = {
        "bucket_name": s3_server.bucket,
        "endpoint_url": s3_server.endpoint,
        "region_name": s3_server.region,
        "access_key": s3_server.access_key,
        "secret_key": s3_server.secret_key,
        "file_overwrite": True,
        "default_acl": None,
    }
    artifacts = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}
    settings.STORAGES = {**settings.STORAGES, "artifacts": artifacts}
    return s3_server
