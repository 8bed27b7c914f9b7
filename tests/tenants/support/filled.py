"""Tenants with data, and everything that a backup must restore."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.db import transaction

from audit.log.entries import record
from prompts.models import Prompt
from runs import storage
from runs.models import Artifact, Call, CallStatus, Run, RunStatus, Step, StepOverride, StepStatus
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.support.superuser import superuser_url
from tests.tenants.support.fleets import as_owner, catalog_of

TABLES = (
    *("runs", "steps", "calls", "spending", "artifacts", "prompts", "step_overrides"),
    *("audit_logs", "audit_chain_heads", "tenant_identity"),
)
# Text on which a careless loader would stumble: what COPY escapes, what psql takes for commands, quotes, other scripts.
AWKWARD = "a\tb\nc\\d\r\\. \\! echo\n\\.\n'\"$$ $1 é 記事 😀"


def add_run(tenant: Tenant, *, status: str = RunStatus.COMPLETED, text: str = AWKWARD) -> uuid.UUID:
    """Give the tenant a run of one step, with its files, rows and audit entry, and an override; return the run's id."""
    with tenant_context(tenant) as alias, transaction.atomic(using=alias):
        prompt = Prompt.objects.using(alias).get(step="draft", is_active=True)
        run = Run.objects.using(alias).create(status=status, current_step="draft", config={"keyword": text})
        output = storage.write(storage.output_path(run.pk, "draft"), text.encode())
        file = storage.write(storage.artifact_path(run.pk, "draft", "draft.md"), f"# {text}".encode())
        step = Step.objects.using(alias).create(
            run=run,
            step="draft",
            status=StepStatus.COMPLETED if status == RunStatus.COMPLETED else StepStatus.RUNNING,
            llm_provider="openai",
            llm_model="m",
            token_usage={"input": 1000, "output": 500},
            cost_per_1k_input_tokens="0.25",
            cost_per_1k_output_tokens="1.25",
            prompt=prompt,
            output_path=output.path,
            output_digest=output.digest,
            summary=text,
            metrics={"size_bytes": output.size_bytes},
            lease_token=1,
        )
        Call.objects.using(alias).create(
            run=run,
            step=step,
            version=1,
            attempt=1,
            lease_token=1,
            llm_provider="openai",
            llm_model="m",
            status=CallStatus.SETTLED,
            token_usage={"input": 1000, "output": 500},
            max_input_tokens=1000,
            max_output_tokens=500,
        )
        Artifact.objects.using(alias).create(
            run=run,
            step="draft",
            file_type="markdown",
            file_path=file.path,
            digest=file.digest,
            metadata={"size_bytes": file.size_bytes},
        )
        StepOverride.objects.using(alias).get_or_create(step="draft", defaults={"llm_provider": "local"})
        record(using=alias, action="run.create", resource_type="run", resource_id=str(run.pk))
    return uuid.UUID(str(run.pk))


def rows_of(tenant: Tenant) -> dict[str, list[str]]:
    """Return the rows of TABLES, and of the view run_costs if it exists, as text by table."""
    with as_owner(tenant) as connection:
        [(has_view,)] = connection.execute("SELECT to_regclass('run_costs') IS NOT NULL").fetchall()
        return {
            table: [row[0] for row in connection.execute(f"SELECT t::text FROM {table} AS t ORDER BY 1")]
            for table in (*TABLES, *(["run_costs"] if has_view else []))
        }


def everything_of(tenant: Tenant) -> dict[str, object]:
    """Return rows, schema with triggers and grants, sequences, and files with their digests."""
    with as_owner(tenant) as connection:
        sequences = connection.execute(
            "SELECT sequencename, coalesce(last_value, 0) FROM pg_sequences ORDER BY 1"
        ).fetchall()
    return {"rows": rows_of(tenant), "schema": catalog_of(tenant), "sequences": sequences, "files": files_of(tenant)}


def files_of(tenant: Tenant) -> dict[str, str]:
    from tenants.files import tenant_storage

    return {
        stored.path: hashlib.sha256(tenant_storage.read(stored.path) or b"").hexdigest()
        for stored in tenant_storage.objects_of(tenant.id)
    }


def without_audit(everything: dict[str, object]) -> dict[str, object]:
    """Return the state without what a restore itself changes: rows of the audit log and its head, and sequences."""
    rows = everything["rows"]
    assert isinstance(rows, dict)
    left = {table: lines for table, lines in rows.items() if not table.startswith("audit_")}
    return {**everything, "rows": left, "sequences": None}


@contextmanager
def as_superuser(tenant: Tenant) -> Iterator[psycopg.Connection]:
    assert tenant.server is not None
    url = superuser_url(tenant.server.admin_url, tenant.database_url.rpartition("/")[2])
    with psycopg.connect(url) as connection:
        yield connection


def destroy_rows(tenant: Tenant) -> None:
    """Delete all runs with their steps, calls and artifacts, and drop the view and a trigger."""
    with as_superuser(tenant) as connection:
        connection.execute("DROP VIEW run_costs")
        connection.execute("DROP TRIGGER touch_run ON runs")
        connection.execute("DELETE FROM artifacts")
        connection.execute("DELETE FROM calls")
        connection.execute("DELETE FROM steps")
        connection.execute("DELETE FROM runs")
