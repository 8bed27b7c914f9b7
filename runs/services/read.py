"""Read a run for a person, and record who read it: inputs and summaries are the customer's data."""

from uuid import UUID

from django.db import transaction

from audit.log.entries import record
from runs.selectors import run_document
from runs.types import RunDocument
from tenants.routing.context import tenant_context


def run_read(*, tenant_id: str, run_id: UUID | str) -> RunDocument:
    """Record the access, then return the run's document. Raises `TenantError` or `UnknownRun`."""
    with tenant_context(tenant_id) as alias:
        document = run_document(tenant_id=tenant_id, run_id=run_id)
        run_read_record(alias=alias, run_id=document["id"])
    return document


def run_read_record(*, alias: str, run_id: UUID | str) -> None:
    with transaction.atomic(using=alias):
        record(using=alias, action="run.read", resource_type="run", resource_id=str(run_id))
