"""End what was cut off: finish it where possible, undo it where not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from config.errors import SeoGenError
from tenants.cluster import Cluster
from tenants.errors import TenantBusy
from tenants.models import OperationStatus, TenantOperation, database_prefix
from tenants.operations import tenant_lock
from tenants.selectors import operations_unfinished, tenant_get
from tenants.services import create
from tenants.types import OnProgress, ignore_progress


@dataclass(frozen=True)
class Recovery:
    """What became of one unfinished operation."""

    tenant_id: str
    kind: str
    # "finished", "undone", "busy" (its process is alive: left alone) or "failed" (still unfinished; see `reason`).
    outcome: str
    reason: str = ""


def tenant_recover(*, on_progress: OnProgress = ignore_progress) -> list[Recovery]:
    """End every unfinished operation and say what became of each. Safe to repeat, and to run beside live operations."""
    return [_recover(operation, on_progress) for operation in operations_unfinished()]


def _recover(operation: TenantOperation, on_progress: OnProgress) -> Recovery:
    tenant_id, kind = operation.tenant_id, operation.kind
    try:
        with tenant_lock(tenant_id, kind):
            operation.refresh_from_db(using="default")
            if operation.status == OperationStatus.RUNNING:
                HANDLERS[kind](operation, on_progress)
    except TenantBusy:
        return Recovery(tenant_id, kind, "busy")
    except SeoGenError as error:
        operation.refresh_from_db(using="default")
        outcome = "undone" if operation.status == OperationStatus.UNDONE else "failed"
        return Recovery(tenant_id, kind, outcome, str(error))
    return Recovery(tenant_id, kind, "finished")


def _finish_create(operation: TenantOperation, on_progress: OnProgress) -> None:
    tenant = tenant_get(operation.tenant_id)
    assert tenant.server is not None  # a tenant that we provision always has one
    with Cluster(tenant.server, database_prefix(), tenant.id) as cluster:
        cluster.end_predecessors()
        create.provision_or_undo(cluster, tenant, operation, on_progress)


HANDLERS: dict[str, Callable[[TenantOperation, OnProgress], None]] = {create.KIND: _finish_create}
