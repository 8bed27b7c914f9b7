"""Anchor the control log and the logs of active and suspended tenants: record where each ends, for later verification.

A run opens one short connection to each of these tenants' databases, several at a time. A tenant's log gets no new
anchor if neither its end nor its guards have changed since its last one.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connections, transaction
from django.utils.translation import gettext as _

from audit.control.models import AuditAnchor
from audit.log.chain_check import ChainHead, genesis_of
from audit.log.entries import record
from audit.verification.anchor_documents import anchor_place, document_write
from audit.verification.anchors import Anchor, anchors_digest
from audit.verification.guard_check import control_roles, guards_hash, guards_read
from audit.verification.log_check import Ends
from audit.verification.logs import CONTROL_GENESIS, control_ends, tenant_ends, tenant_roles
from config.base.databases import CONTROL
from config.base.errors import SeoGenError
from tenants.errors import JobBusy, reason_of
from tenants.models import Tenant, TenantStatus
from tenants.operations import advisory_lock
from tenants.parallel import in_parallel
from tenants.routing.owner_connection import owner_connection
from tenants.schema.inspection import database_of

LOCK = "seo-gen:audit-anchor"
WORKERS = 8
# Tenants that are being created, restored or erased are left to a later run.
READABLE = (TenantStatus.ACTIVE, TenantStatus.SUSPENDED)
# The newest anchor of each log.
LATEST = """
SELECT log.identity, anchor.sequence, anchor.hash, anchor.guard_hash
  FROM unnest(%s::uuid[]) AS log (identity)
 CROSS JOIN LATERAL (SELECT * FROM public.audit_anchors AS one WHERE one.identity = log.identity
                      ORDER BY one.id DESC LIMIT 1) AS anchor
"""


@dataclass(frozen=True)
class AnchorReport:
    """The result of a run of `audit_anchor`."""

    run: UUID
    at: datetime
    # How many logs were to be checked, and how many anchors were taken.
    logs: int
    anchors: int
    # {"place", "name", "sha256"}; None if AUDIT_ANCHOR_OUTPUT is not set, or the document could not be written.
    document: dict[str, object] | None
    # One message for each log that could not be anchored, and for a document that could not be written.
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _End:
    head: ChainHead
    guard_hash: str


def _busy() -> JobBusy:
    return JobBusy(_("Another process is anchoring the audit logs."))


def audit_anchor() -> AnchorReport:
    """Anchor the control log and the logs of active and suspended tenants.

    A log that cannot be read, or does not end where its chain head says, is reported in `problems`, and the run
    continues; so is a document that cannot be written. A tenant whose connection changes meanwhile, as by a restore, is
    left to the next run. The run's entry in the control log holds the digest of its anchors. Raises `JobBusy` if
    another run is in progress.
    """
    with advisory_lock(LOCK, wait_s=1, busy=_busy):
        # The order matters: list the tenants' databases, take the time, read the logs, then check that the databases
        # are still the same. A restore is then either before or after that time (`audit.verification.lineage` relies
        # on it).
        tenants = _tenants()
        at = _now()
        anchors, problems = _take(tenants, at)
        run = uuid.uuid4()
        document = _document(run, at, anchors, problems)
        with transaction.atomic(using=CONTROL):
            AuditAnchor.objects.using(CONTROL).bulk_create([_row(run, anchor) for anchor in anchors])
            record(
                using=CONTROL,
                action="audit.anchor",
                resource_type="audit_anchor",
                resource_id=str(run),
                details={"count": len(anchors), "digest": anchors_digest(anchors), "document": document},
            )
    return AnchorReport(run, at, len(tenants) + 1, len(anchors), document, problems)


def _take(tenants: list[Tenant], at: datetime) -> tuple[list[Anchor], list[str]]:
    latest = _latest(tenants)
    ends, problems = _read_ends(tenants)
    versions = {tenant.pk: tenant.connection_version for tenant in _tenants()}
    anchors = []
    for tenant, end in ends:
        taken = (end.head.sequence, end.head.hash, end.guard_hash)
        if latest.get(tenant.identity) != taken and versions.get(tenant.pk) == tenant.connection_version:
            anchors.append(Anchor(tenant.id, tenant.identity, *taken, at))
    try:
        # Always a new anchor: the last run's own entry came after its anchor.
        control = control_end()
        anchors.append(Anchor("", None, control.head.sequence, control.head.hash, control.guard_hash, at))
    except SeoGenError as error:
        problems.append(str(error.message))
    return anchors, problems


def control_end() -> _End:
    guards = guards_read(connections[CONTROL], "control", control_roles())
    return _end(control_ends(), genesis=CONTROL_GENESIS, guard_hash=guards_hash(guards), name=_("The control database"))


def _read_ends(tenants: list[Tenant]) -> tuple[list[tuple[Tenant, _End]], list[str]]:
    ends, problems = [], []
    for tenant, found in in_parallel(_read_end, tenants, WORKERS):
        if isinstance(found, _End):
            ends.append((tenant, found))
        elif isinstance(found, SeoGenError):
            problems.append(str(found.message))
        else:
            problems.append(_about(tenant, reason_of(found)))
    return sorted(ends, key=lambda one: one[0].id), sorted(problems)


def _read_end(tenant: Tenant) -> _End:
    with owner_connection(tenant.require_server(), database_of(tenant), "audit anchor") as connection:
        guards = guards_read(connection, "tenant", tenant_roles(tenant))
        genesis = genesis_of(tenant.chain_identity or tenant.identity)
        return _end(
            tenant_ends(connection),
            genesis=genesis,
            guard_hash=guards_hash(guards),
            name=_("Tenant %(id)s") % {"id": tenant.id},
        )


def _end(ends: Ends, *, genesis: str, guard_hash: str, name: str) -> _End:
    """Return the end if head and last row agree; otherwise raise, so that no anchor vouches for a broken log."""
    last = ends.last or ChainHead(0, genesis)
    if ends.head is None or ends.head != last:
        raise SeoGenError(
            _(
                "%(name)s: the chain head does not confirm the end of the audit log, so the log was not anchored. Run"
                " `seo-gen audit verify --all` for details."
            )
            % {"name": name},
            code="audit_log_broken",
        )
    return _End(ends.head, guard_hash)


def _document(run: UUID, at: datetime, anchors: list[Anchor], problems: list[str]) -> dict[str, object] | None:
    """Write the document, and return {"place", "name", "sha256"}; None if no place is set.

    If writing fails, add a message about it to `problems`, and return None.

    Call this before the transaction, which blocks every other writer of the control log.
    """
    try:
        place = anchor_place()
        return document_write(place, run, at, anchors) if place else None
    except SeoGenError as error:
        problems.append(str(error))
        return None


def _tenants() -> list[Tenant]:
    return list(Tenant.objects.using(CONTROL).filter(status__in=READABLE).select_related("server").order_by("id"))


def _latest(tenants: list[Tenant]) -> dict[UUID, tuple[int, str, str]]:
    with connections[CONTROL].cursor() as cursor:
        cursor.execute(LATEST, [[str(tenant.identity) for tenant in tenants]])
        return {identity: (sequence, hash_then, guards) for identity, sequence, hash_then, guards in cursor}


def _now() -> Any:
    with connections[CONTROL].cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


def _row(run: UUID, anchor: Anchor) -> AuditAnchor:
    return AuditAnchor(
        run=run,
        tenant_id=anchor.tenant_id,
        identity=anchor.identity,
        sequence=anchor.sequence,
        hash=anchor.hash,
        guard_hash=anchor.guard_hash,
        created_at=anchor.at,
    )


def _about(tenant: Tenant, reason: str) -> str:
    return _("Tenant %(id)s: its audit log was not anchored: %(reason)s.") % {"id": tenant.id, "reason": reason}
