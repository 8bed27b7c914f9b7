"""Verify live and archived audit logs: their chains, guards and anchors, and the control log's entries about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import Error
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from audit.control.models import AuditAnchor, AuditArchive, ControlAuditLog
from audit.log.archive import archive_problem
from audit.log.chain_check import ChainHead, genesis_of
from audit.log.entries import record
from audit.verification.anchors import Anchor
from audit.verification.evidence import Evidence, evidence_gather
from audit.verification.expected_guards import KNOWN
from audit.verification.guard_check import LogRoles, control_roles, guard_problems, guards_read
from audit.verification.lineage import Restored, is_explained, life_begins, path_of, restores_of
from audit.verification.log_check import (
    Deviation,
    Ends,
    Kind,
    LogReport,
    Problem,
    chain_fault,
    deviations,
    deviations_from,
    in_each,
    judge,
    last_good,
    restores_bound,
)
from audit.verification.logs import CONTROL_GENESIS, CONTROL_LOG, TENANT_LOG, control_ends, tenant_ends, tenant_roles
from config.base.databases import CONTROL
from config.base.errors import SeoGenError
from tenants.erasure.steps import AUDIT_LOSS
from tenants.erasure_ledger import ledger_problems
from tenants.errors import UnknownTenant, reason_of
from tenants.models import DatabaseServer, Tenant, TenantStatus
from tenants.operations import backup_lock
from tenants.routing.owner_connection import owner_connection
from tenants.schema.inspection import database_of
from tenants.types import OnProgress, Progress, ignore_progress

# Tenants that are being created, restored or erased are skipped, and reported as not verified.
READABLE = (TenantStatus.ACTIVE, TenantStatus.SUSPENDED)
ARCHIVED = """
SELECT sequence, entry_hash, created_at FROM public.archived_audit_logs WHERE identity = %s AND sequence = ANY (%s)
"""
ARCHIVED_BOUND = """
SELECT details->>'operation', sequence - 1, previous_hash
  FROM public.archived_audit_logs WHERE identity = %s AND action = 'tenant.restore'
"""


@dataclass(frozen=True)
class _Live:
    """A log that can be read in its own database."""

    connection: BaseDatabaseWrapper
    table: LiteralString
    ends: Ends
    genesis: str


@dataclass(frozen=True)
class _Facts:
    ends: Ends
    genesis: str
    anchors: list[Anchor]
    # The anchors that the log does not match.
    wrong: list[Deviation]
    restores: Sequence[Restored]
    # For each restore, whether its line is part of the current log.
    on_path: Sequence[bool]
    fault: Problem | None = None


def audit_verify(*, tenant_id: str | None = None, on_progress: OnProgress = ignore_progress) -> list[LogReport]:
    """Verify the control log and one tenant's log, or all logs, including the archived logs of erased tenants.

    The control log is always verified in full, because it explains a tenant's restores and confirms its anchors.
    Problems are listed in the reports. The verification itself is recorded in the control log.

    Raises `UnknownTenant`, or `PlaceError` if AUDIT_ANCHOR_OUTPUT is invalid.
    """
    tenants, archives, lost = _which(tenant_id)
    on_progress(Progress("control", "verify"))
    evidence = evidence_gather()
    reports = [_control(evidence)]
    for tenant in tenants:
        on_progress(Progress(tenant.id, "verify"))
        reports.append(_tenant(tenant, evidence))
    for archive in archives:
        on_progress(Progress(archive.tenant_id, "verify"))
        reports.append(_archive(archive, evidence))
    reports += [_lost(tenant) for tenant in lost]
    reports += _vanished(tenant_id, evidence)
    problem = _record(tenant_id, reports)
    if problem:
        reports[0].problems.append(problem)
    return reports


def _which(tenant_id: str | None) -> tuple[list[Tenant], list[AuditArchive], list[Tenant]]:
    """Return (tenants to verify, archives to verify, erased tenants without an archive). Raises `UnknownTenant`."""
    tenants = Tenant.objects.using(CONTROL).select_related("server").order_by("id")
    archives = AuditArchive.objects.using(CONTROL).order_by("tenant_id", "archived_at")
    if tenant_id is not None:
        tenants, archives = tenants.filter(pk=tenant_id), archives.filter(tenant_id=tenant_id)
        if not tenants.exists() and not archives.exists():
            raise UnknownTenant(tenant_id)
    # The application can write `status`, so no status hides a log: unreadable logs are reported.
    found = tenants.exclude(status=TenantStatus.DELETED)
    kept = archives.values_list("identity", flat=True)
    lost = tenants.filter(status=TenantStatus.DELETED).exclude(identity__in=list(kept))
    return list(found), list(archives), list(lost)


def _control(evidence: Evidence) -> LogReport:
    connection = connections[CONTROL]
    report = LogReport("control", "", None, documents=evidence.documents)
    with _reporting_errors(report):
        roles = control_roles()
        for kind in ("control", "archive", "anchors", "ledger"):
            report.problems.extend(_about_guards(connection, kind, roles))
    anchors = evidence.anchors_of(None)
    with _reporting_errors(report):
        _chain(report, _Live(connection, CONTROL_LOG, control_ends(), CONTROL_GENESIS), anchors)
    report.problems.extend(evidence.problems)
    report.problems.extend(_about_old_guards("control", anchors))
    with _reporting_errors(report):
        report.problems.extend(_about_lost_archives())
        report.problems.extend(Problem(Kind.LEDGER, text) for text in ledger_problems())
    return report


def _tenant(tenant: Tenant, evidence: Evidence) -> LogReport:
    report = LogReport("tenant", tenant.id, tenant.identity)
    with _reporting_errors(report):
        _require_readable(tenant)
        # The database must not be replaced meanwhile.
        with backup_lock(tenant.id):
            # The tenant may have been erased or moved since the tenants were listed.
            tenant.refresh_from_db(using=CONTROL)
            server = _require_readable(tenant)
            with owner_connection(server, database_of(tenant), "audit verify") as connection:
                _verify_live(report, connection, tenant, evidence)
    return report


def _require_readable(tenant: Tenant) -> DatabaseServer:
    if tenant.status not in READABLE:
        raise SeoGenError(
            _("The audit log of tenant %(id)s was not verified, because the tenant's status is %(status)s.")
            % {"id": tenant.id, "status": tenant.get_status_display()},
            code="audit_log_not_readable",
        )
    return tenant.require_server()


def _verify_live(report: LogReport, connection: BaseDatabaseWrapper, tenant: Tenant, evidence: Evidence) -> None:
    report.problems.extend(_about_guards(connection, "tenant", tenant_roles(tenant)))
    genesis = genesis_of(tenant.chain_identity or tenant.identity)
    anchors, restores = _history(tenant.id, tenant.identity, evidence)
    report.problems.extend(_about_old_guards("tenant", anchors))
    _chain(report, _Live(connection, TENANT_LOG, tenant_ends(connection), genesis), anchors, restores)


def _archive(archive: AuditArchive, evidence: Evidence) -> LogReport:
    """Compare an archived log with its digest, with the control log and with its anchors.

    Skip the anchors if the log was already broken when it was archived, and the operator accepted that.
    """
    report = LogReport("archive", archive.tenant_id, archive.identity, entries=archive.entries)
    with _reporting_errors(report):
        found = archive_problem(archive)
        if found:
            report.problems.append(Problem(Kind.ARCHIVE, found))
        report.problems.extend(_about_archive(archive))
        if archive.first_bad is not None and _loss_accepted(archive.tenant_id, archive.identity):
            # It was already broken when it was archived, and the operator accepted that: its anchors may not match.
            return report
        anchors, restores = _history(archive.tenant_id, archive.identity, evidence)
        with connections[CONTROL].cursor() as cursor:
            cursor.execute(ARCHIVED, [archive.identity, [anchor.sequence for anchor in anchors]])
            rows = {sequence: (hash_there, time) for sequence, hash_there, time in cursor}
            cursor.execute(ARCHIVED_BOUND, [archive.identity])
            bound = {(str(operation), ChainHead(number, before)) for operation, number, before in cursor}
        genesis = genesis_of(archive.chain_identity)
        end = ChainHead(archive.entries, archive.head_hash)
        wrong = deviations_from(rows, anchors, genesis)
        _judge(report, _Facts(Ends(end, end), genesis, anchors, wrong, restores, path_of(restores, bound)))
    return report


def _loss_accepted(tenant_id: str, identity: UUID) -> bool:
    """Return whether the control log records a deletion of the tenant that accepted a broken or missing log."""
    begun = ControlAuditLog.objects.using(CONTROL).filter(
        action="tenant.delete", resource_type="tenant", resource_id=tenant_id
    )
    return begun.filter(details__identity=str(identity), details__accepts__contains=[AUDIT_LOSS]).exists()


def _lost(tenant: Tenant) -> LogReport:
    if _loss_accepted(tenant.id, tenant.identity):
        return LogReport("archive", tenant.id, tenant.identity)
    problem = Problem(Kind.ARCHIVE, _("The tenant was erased, but there is no archive of its log."))
    return LogReport("archive", tenant.id, tenant.identity, problems=[problem])


def _vanished(tenant_id: str | None, evidence: Evidence) -> list[LogReport]:
    """Report anchored logs that no tenant or archive has any more: the row was removed, or its identity was changed."""
    anchors = AuditAnchor.objects.using(CONTROL).exclude(identity=None)
    if tenant_id is not None:
        anchors = anchors.filter(tenant_id=tenant_id)
    known = {(one.tenant_id, one.identity) for one in anchors.order_by().distinct("identity")}
    known |= {
        (one.tenant_id, one.identity)
        for found in evidence.beyond.values()
        for one in found
        if one.identity is not None and tenant_id in (None, one.tenant_id)
    }
    there = set(Tenant.objects.using(CONTROL).values_list("identity", flat=True))
    there |= set(AuditArchive.objects.using(CONTROL).values_list("identity", flat=True))
    problem = Problem(
        Kind.UNREADABLE, _("This log was anchored, but no tenant or archived log has its identity any more.")
    )
    return [
        LogReport("tenant", name, identity, problems=[problem])
        for name, identity in sorted(known, key=str)
        if identity not in there
    ]


def _history(tenant_id: str, identity: UUID, evidence: Evidence) -> tuple[list[Anchor], list[Restored]]:
    """Return the tenant's anchors and restores; if a clone or an import created it, only those made after that."""
    anchors, restores = evidence.anchors_of(identity), restores_of(tenant_id)
    begun = life_begins(tenant_id, identity)
    if begun is None:
        return anchors, restores
    return [one for one in anchors if one.at > begun], [one for one in restores if one.at > begun]


def _chain(report: LogReport, log: _Live, anchors: list[Anchor], restores: Sequence[Restored] = ()) -> None:
    """Verify the log's chain and anchors; add the problems to the report."""
    report.entries, fault = chain_fault(log.connection, log.table, log.genesis)
    on_path = path_of(restores, restores_bound(log.connection, log.table)) if restores else []
    wrong = deviations(log.connection, anchors, log=log.table, genesis=log.genesis)
    _judge(report, _Facts(log.ends, log.genesis, anchors, wrong, restores, on_path, fault))


def _judge(report: LogReport, facts: _Facts) -> None:
    lacked = {one.anchor for one in facts.wrong}
    unexplained = [one for one in facts.wrong if not is_explained(one.anchor, facts.restores, facts.on_path)]
    end = unexplained[0].anchor.sequence if unexplained else None
    vouched = [one.sequence for one in facts.anchors if one not in lacked and (end is None or one.sequence < end)]
    found = judge(
        ends=facts.ends, genesis=facts.genesis, fault=facts.fault, wrong=unexplained, good=max(vouched, default=0)
    )
    if facts.restores and not facts.on_path[-1] and not found:
        found = [
            Problem(
                Kind.ROLLED_BACK,
                _(
                    "The log does not contain the restore or undo completed at %(time)s: another state has replaced the"
                    " log since."
                )
                % {"time": f"{facts.restores[-1].at:%Y-%m-%d %H:%M:%S%z}"},
            )
        ]
    report.anchors, report.explained = len(facts.anchors), len(facts.wrong) - len(unexplained)
    report.last_good_anchor = last_good(facts.anchors, lacked, found)
    report.problems += found


def _about_guards(connection: BaseDatabaseWrapper, kind: str, roles: LogRoles) -> Iterator[Problem]:
    for text in guard_problems(kind, guards_read(connection, kind, roles)):
        yield Problem(Kind.GUARD, text)


def _about_old_guards(kind: str, anchors: Sequence[Anchor]) -> Iterator[Problem]:
    """Yield a problem if anchors were taken while the guards were wrong, no matter what the guards are now."""
    others = [one for one in anchors if one.guard_hash not in KNOWN[kind]]
    if others:
        yield Problem(
            Kind.GUARD,
            ngettext(
                "The guards were wrong when an anchor was taken at %(time)s.",
                "The guards were wrong when %(count)d anchors were taken, first at %(time)s.",
                len(others),
            )
            % {"count": len(others), "time": f"{others[0].at:%Y-%m-%d %H:%M:%S%z}"},
        )


def _about_archive(archive: AuditArchive) -> Iterator[Problem]:
    entry = _archive_entries().filter(details__identity=str(archive.identity)).order_by("sequence").first()
    if entry is None:
        yield Problem(Kind.ARCHIVE, _("No audit.archive entry in the control log matches this archive."))
        return
    details = entry.details or {}
    head = details.get("head")
    claimed = (details.get("entries"), _hash_of(head), details.get("digest"), details.get("first_bad"))
    kept = (archive.entries, archive.head_hash, archive.digest, archive.first_bad)
    if (entry.resource_id, *claimed) != (archive.tenant_id, *kept):
        yield Problem(Kind.ARCHIVE, _("The archive differs from what the control log recorded."))
    if archive.first_bad is not None and not _loss_accepted(archive.tenant_id, archive.identity):
        yield Problem(
            Kind.ARCHIVE,
            _("The log was already broken at entry %(number)d when it was archived.") % {"number": archive.first_bad},
            archive.first_bad,
        )


def _about_lost_archives() -> Iterator[Problem]:
    kept = {str(one) for one in AuditArchive.objects.using(CONTROL).values_list("identity", flat=True)}
    for entry in _archive_entries().order_by("sequence"):
        if (entry.details or {}).get("identity") not in kept:
            yield Problem(
                Kind.ARCHIVE, _("The archived audit log of %(tenant)s is missing.") % {"tenant": entry.resource_id}
            )


def _archive_entries() -> Any:
    return ControlAuditLog.objects.using(CONTROL).filter(action="audit.archive", resource_type="tenant")


def _hash_of(head: object) -> object:
    return head.get("hash") if isinstance(head, dict) else head


@contextmanager
def _reporting_errors(report: LogReport) -> Iterator[None]:
    """Record a `SeoGenError` or database error in the block as a problem of this log, and continue after the block."""
    try:
        yield
    except SeoGenError as error:
        report.problems.append(Problem(Kind.UNREADABLE, error.message))
    except Error as error:
        report.problems.append(
            Problem(
                Kind.UNREADABLE, _("The log could not be fully verified: %(reason)s.") % {"reason": reason_of(error)}
            )
        )


def _record(tenant_id: str | None, reports: Sequence[LogReport]) -> Problem | None:
    """Record the verification in the control log; return a problem if that fails, else None."""
    details: dict[str, object] = {"logs": len(reports), "problems": sum(1 for _one in in_each(reports))}
    kind, resource = ("tenant", tenant_id) if tenant_id else ("audit_log", "*")
    try:
        with transaction.atomic(using=CONTROL):
            record(using=CONTROL, action="audit.verify", resource_type=kind, resource_id=resource, details=details)
    except Error as error:
        return Problem(
            Kind.UNREADABLE,
            _("The audit.verify entry could not be written: %(reason)s.") % {"reason": reason_of(error)},
        )
    return None
