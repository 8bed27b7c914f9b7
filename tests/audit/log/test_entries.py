"""`record`: who did what, in the same transaction as the change or not at all."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction

from audit.control.models import ControlAuditLog
from audit.errors import AuditOutsideTransaction, DetailsNotJson, UnknownAction
from audit.log.actions import ACTIONS
from audit.log.actor import acting_as
from audit.log.entries import log_export, record
from audit.models import AuditLog
from tenants.models import Tenant
from tenants.routing.context import tenant_context


class Refused(Exception):
    """Raised to roll back a transaction."""


def test_an_entry_holds_actor_operation_and_details(tenant: Tenant) -> None:
    with tenant_context(tenant) as alias, acting_as("operator:ann", "operation-1"), transaction.atomic(using=alias):
        entry = record(
            using=alias, action="run.create", resource_type="run", resource_id="r-1", details={"keyword": "記事"}
        )
    assert isinstance(entry, AuditLog)
    assert (entry.user_id, entry.action, entry.resource_type, entry.resource_id) == (
        "operator:ann",
        "run.create",
        "run",
        "r-1",
    )
    assert (entry.operation_id, entry.details) == ("operation-1", {"keyword": "記事"})
    assert entry.id == entry.sequence and len(entry.entry_hash) == len(entry.previous_hash) == 64
    with tenant_context(tenant):
        assert AuditLog.objects.get(pk=entry.pk).entry_hash == entry.entry_hash


def test_the_control_database_has_its_own_log() -> None:
    resource_id = uuid4().hex
    with transaction.atomic(using="default"):
        entry = record(using="default", action="tenant.create", resource_type="tenant", resource_id=resource_id)
    assert isinstance(entry, ControlAuditLog)
    assert ControlAuditLog.objects.get(resource_id=resource_id).user_id == "system"


def test_one_tenants_entries_are_not_in_anothers_log(tenant_pair: tuple[Tenant, Tenant]) -> None:
    first, second = tenant_pair
    resource_id = uuid4().hex
    with tenant_context(first) as alias, transaction.atomic(using=alias):
        record(using=alias, action="run.create", resource_type="run", resource_id=resource_id)
    with tenant_context(second):
        assert not AuditLog.objects.filter(resource_id=resource_id).exists()
    assert not ControlAuditLog.objects.filter(resource_id=resource_id).exists()


def test_recording_without_a_transaction_is_refused(tenant: Tenant) -> None:
    with tenant_context(tenant) as alias:
        before = AuditLog.objects.count()
        with pytest.raises(
            AuditOutsideTransaction, match=r"run\.start must be recorded inside the transaction on tenant:"
        ):
            record(using=alias, action="run.start", resource_type="run", resource_id="r-1")
        assert AuditLog.objects.count() == before


def test_a_transaction_on_the_control_database_does_not_count_for_a_tenants(tenant: Tenant) -> None:
    with tenant_context(tenant) as alias, transaction.atomic(using="default"), pytest.raises(AuditOutsideTransaction):
        record(using=alias, action="run.start", resource_type="run", resource_id="r-1")


def test_an_entry_is_rolled_back_with_its_change(tenant: Tenant) -> None:
    with tenant_context(tenant) as alias:
        before = AuditLog.objects.count()
        with pytest.raises(Refused):
            _record_and_fail(alias)
        assert AuditLog.objects.count() == before


def _record_and_fail(alias: str) -> None:
    with transaction.atomic(using=alias):
        record(using=alias, action="run.start", resource_type="run", resource_id="r-1")
        raise Refused


@pytest.mark.parametrize("action", ["", "run.explode", "RUN.CREATE"])
def test_an_unknown_action_is_refused(action: str) -> None:
    with (
        transaction.atomic(using="default"),
        pytest.raises(UnknownAction, match="is not an audited action"),
    ):
        record(using="default", action=action, resource_type="run", resource_id="r-1")


@pytest.mark.parametrize(
    "details", [{"when": date(2026, 1, 1)}, {"cost": float("nan")}, {"text": "a\x00b"}, {"raw": b"bytes"}, {(1, 2): 3}]
)
def test_details_that_are_not_json_are_refused(details: dict[str, object]) -> None:
    with (
        transaction.atomic(using="default"),
        pytest.raises(DetailsNotJson, match=r"The details of run\.create cannot be stored as JSON"),
    ):
        record(using="default", action="run.create", resource_type="run", resource_id="r-1", details=details)


def test_a_backslash_before_u0000_is_ordinary_text() -> None:
    with transaction.atomic(using="default"):
        details: dict[str, object] = {"text": "\\u0000"}
        entry = record(
            using="default", action="tenant.create", resource_type="tenant", resource_id="t", details=details
        )
    assert ControlAuditLog.objects.get(pk=entry.pk).details == details


def test_action_names_are_a_noun_and_a_verb() -> None:
    assert all(len(action.rsplit(".", 1)) == 2 and action == action.lower() for action in ACTIONS)


def test_an_entry_appended_while_an_export_begins_is_exported(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    appended: list[str] = []

    def append() -> None:
        with tenant_context(tenant) as alias, transaction.atomic(using=alias):
            record(using=alias, action="run.create", resource_type="run", resource_id="meanwhile")

    def append_first(**given: Any) -> Any:
        if not appended:
            appended.append("meanwhile")
            with ThreadPoolExecutor(1) as pool:
                pool.submit(append).result()
        return record(**given)

    monkeypatch.setattr("audit.log.entries.record", append_first)
    with tenant_context(tenant) as alias:
        lines = [json.loads(line) for part in log_export(using=alias) for line in part.splitlines()]
        entry = AuditLog.objects.using(alias).get(action="audit.export")
    assert lines[-1]["resource_id"] == "meanwhile"
    assert entry.details == {"entries": len(lines), "head": lines[-1]["entry_hash"]}
    assert (entry.sequence, entry.previous_hash) == (len(lines) + 1, lines[-1]["entry_hash"])
