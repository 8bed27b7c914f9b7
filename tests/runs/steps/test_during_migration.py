"""Workers keep running while their tenant's database is migrated: reads and writes wait, and nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import psycopg

from runs.models import WORKING, Run, RunStatus, Step, StepStatus
from runs.steps.sweep import runs_sweep
from tenants.fleet.migrate import tenant_migrate
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tenants.schema.inspection import database_of
from tenants.types import BatchProgress
from tests.runs.driving import STEPS
from tests.runs.fake_llm import INPUT_TOKENS, OUTPUT_TOKENS, Answer, FakeLLM
from tests.runs.worker import wait_for, worker
from tests.support.releases import NextRelease
from tests.support.superuser import superuser_url

LEASE_S = "1"
# Takes every lock that a worker could need.
LOCKING = """
    operations = [
        migrations.AddField("Run", "label", models.TextField(null=True)),
        migrations.AddField("Step", "label", models.TextField(null=True)),
        migrations.AddField("Artifact", "label", models.TextField(null=True)),
    ]
"""
# A session that has waited for a lock for longer than the lease of its step.
WAITING = """
SELECT EXISTS (SELECT FROM pg_stat_activity
                WHERE datname = %s AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > interval '2 s')
"""


def test_a_worker_that_keeps_running_loses_no_run(
    tenant: Tenant, make_run: Callable[..., Run], fake_llm: FakeLLM, tmp_path: Path
) -> None:
    gate = threading.Event()
    fake_llm.answers.extend([Answer(gate=gate)] * 2)
    following = NextRelease(tmp_path / "release").add("0003_label", LOCKING)
    assert tenant.server is not None
    with (
        worker(RUN_LEASE_S=LEASE_S),
        psycopg.connect(superuser_url(tenant.server.admin_url), autocommit=True) as server,
    ):

        def hold(progress: BatchProgress) -> None:
            """Let the model answer, and keep the transaction prepared until a worker has waited for it."""
            if (progress.phase, progress.done) == ("prepare", 1):
                gate.set()
                wait_for(lambda: bool(server.execute(WAITING, [database_of(tenant)]).fetchone()[0]))  # type: ignore[index]

        runs = [make_run(tenant) for _ in range(5)]
        wait_for(lambda: len(fake_llm.prompts) >= 1)
        with following.active():
            report = tenant_migrate(tenant_id=tenant.id, lock_timeout_s=60, on_progress=hold)
        assert report.outcome == "completed"
        runs.append(make_run(tenant))
        wait_for(lambda: over(tenant))
    with tenant_context(tenant) as alias:
        assert {run.status for run in Run.objects.using(alias)} == {RunStatus.COMPLETED}
        steps = list(Step.objects.using(alias))
        assert len(steps) == len(runs) * len(STEPS)
        assert {step.status for step in steps} == {StepStatus.COMPLETED}
        assert all(step.token_usage == {"input": INPUT_TOKENS, "output": OUTPUT_TOKENS} for step in steps)


def over(tenant: Tenant) -> bool:
    """Sweep as beat does; return whether no unfinished run is left."""
    runs_sweep()
    with tenant_context(tenant) as alias:
        return not Run.objects.using(alias).filter(status__in=WORKING).exists()
