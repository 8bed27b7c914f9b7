"""One worker serves more tenants than their server allows connections, and does not mix them up."""

import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psycopg
import pytest
from django.db import connections

from runs.models import Artifact, Run, RunStatus
from runs.services.create import run_create
from runs.storage import read
from tenants.lifecycle.create import tenant_create
from tenants.lifecycle.setup import server_register
from tenants.models import DatabaseServer, Tenant
from tenants.routing.context import tenant_context
from tests.runs.driving import PROVIDER, reload
from tests.runs.fake_llm import FakeLLM
from tests.runs.worker import wait_for, worker
from tests.support.servers import second_postgres
from tests.support.superuser import superuser_url

MAX_CONNECTIONS = 40
# More than there are connections, so that one kept for each tenant would show. `make chaos` uses 300.
TENANTS = 12 * int(os.environ.get("CHAOS_ROUNDS", "5"))


@pytest.fixture
def small_server(tmp_path: Path) -> Iterator[DatabaseServer]:
    """Yield a server that allows fewer connections than the test creates tenants."""
    with second_postgres(tmp_path / "small", f"max_connections={MAX_CONNECTIONS} reserved_connections=4") as url:
        server = server_register(name="small", admin_url=url)
        yield server
        Tenant.objects.filter(server=server).delete()
        server.delete()


def create_on(server: DatabaseServer, number: int) -> Tenant:
    try:
        return tenant_create(name=f"small {number}", tenant_id=f"small-{number}", server_name=server.name)
    finally:
        if threading.current_thread() is not threading.main_thread():
            connections.close_all()


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_one_worker_serves_more_tenants_than_their_server_allows_connections(
    small_server: DatabaseServer, fake_llm: FakeLLM
) -> None:
    create_on(small_server, 0)
    with ThreadPoolExecutor(4) as threads:
        tenants = [
            Tenant.objects.get(pk="small-0"),
            *threads.map(lambda n: create_on(small_server, n), range(1, TENANTS)),
        ]
    fake_llm.echo = True
    random.Random(3).shuffle(tenants)
    with worker():
        runs = {tenant: one_step_run(tenant) for tenant in tenants}
        for tenant, run in runs.items():
            wait_for(partial(has_completed, tenant, run))
            assert busy_connections(small_server) <= MAX_CONNECTIONS
    # Each article was made for, and written into, its own tenant.
    for tenant, run in runs.items():
        with tenant_context(tenant) as alias:
            artifact = Artifact.objects.using(alias).get()
            assert artifact.run_id == run.pk
            assert f"word-of-{tenant.id}." in read(artifact.file_path, artifact.digest).decode()
            assert Run.objects.using(alias).count() == 1
    assert len(fake_llm.prompts) == TENANTS


def one_step_run(tenant: Tenant) -> Run:
    models = {"keyword_analysis": {"provider": PROVIDER, "model_class": "standard"}}
    config = {"keyword": f"word-of-{tenant.id}.", "language": "en", "steps": ["keyword_analysis"], "models": models}
    return run_create(tenant_id=tenant.id, config=config)


def has_completed(tenant: Tenant, run: Run) -> bool:
    return reload(tenant, run).status == RunStatus.COMPLETED


def busy_connections(server: DatabaseServer) -> int:
    with psycopg.connect(superuser_url(server.admin_url)) as admin:
        row = admin.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'").fetchone()
        return int(row[0]) if row else 0
