"""Texts that would act on a page, planted in every column that a customer, a model, staff or a browser can fill."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any
from uuid import UUID, uuid4

from django.apps import apps
from django.contrib.auth.models import User
from django.db import DatabaseError, models, transaction
from django.utils import timezone

from audit.log.actor import acting_as
from audit.log.entries import record
from config.site.sign_in.models import LinkedIdentity
from llm.models import LLMModel, LLMPrice
from llm.types import Fallback
from runs.models import Call, CallStatus
from runs.summaries.models import DailyCost, RunSummary
from tenants.models import BaseBackup, BatchKind, BatchStatus, BatchTenant, MigrationBatch, TenantGroup
from tests.config.site.access.rows import World
from tests.support.staff import Filled

SUM = "7*7919"
EVALUATED = str(7 * 7919)
# As an address, it is a script; it leaves strings of JavaScript with each quotation mark, and a comment; then come
# expressions of Django, Jinja and JavaScript, and markup that leaves a text, an attribute and a script, for the
# browser, Alpine and htmx. A short column holds the beginning.
TEXT = (
    "javascript:/*-/*`/*\\`/*'/*\"/**/(zq())//"
    f"${{{SUM}}}{{{{{SUM}}}}}{{% zq %}}</title></textarea></script>"
    "<zq-tag onclick=zq() x-data x-init=zq() hx-get=/zq/ hx-trigger=load>"
    "<img src=/zq/ onerror=zq()><script>zq()</script>"
)

# Columns that someone can fill, directly or by what a provider, a browser or a file says.
FILLABLE = {
    "auth.User": "username first_name last_name email",
    "tenants.Tenant": "name",
    "tenants.TenantGroup": "name",
    "tenants.TemporaryAccess": "user_name reason",
    "tenants.Approval": "requested_by reason decided_by note used_by used_for arguments",
    "tenants.TenantOperation": "user_id error",
    "tenants.Backup": "name recipient user_id error verify_error",
    "tenants.Restore": "source report",
    "tenants.BaseBackup": "name user_id error",
    "tenants.MigrationBatch": "user_id error",
    "tenants.BatchTenant": "error changes",
    "tenants.OperationRequest": "arguments requested_by reason step result error owner",
    "sign_in.StaffSession": "address browser",
    "sign_in.LinkedIdentity": "issuer subject",
    "llm.LLMProvider": "display_name api_base_url",
    "llm.LLMModel": "model_name",
    "llm.LLMPrice": "made_by note",
    "llm.StepLLMDefault": "fallbacks",
    "prompts.Prompt": "content variables author note",
    "runs.Run": "config paused_by current_step",
    "runs.Step": (
        "step llm_model token_usage error_message llm_provider summary metrics lease_owner approved_by review_comment"
        " prices fallbacks rerouted"
    ),
    "runs.Call": "llm_provider llm_model request_id token_usage finish_reason error_code",
    "runs.Artifact": "step file_type metadata",
    "runs.StepOverride": "llm_provider llm_model",
    "run_summaries.RunSummary": "current_step error_step error",
    "run_summaries.DailyCost": "step provider model token_usage",
}
# JSON whose shape only the product writes.
SHAPES: Mapping[str, Callable[[str], object]] = {
    "fallbacks": lambda text: [Fallback(text, text).as_document()],
    "rerouted": lambda text: {"reason": "model_inactive", "from": text},
    "prices": lambda text: {text: "0.1"},
    "token_usage": lambda text: {text: 3},
    "changes": lambda text: [
        {"step": text, "before": 1, "before_id": 1, "before_sha256": "x", "after": 2, "after_id": 2}
    ],
    "variables": lambda text: [{"name": text, "required": True, "type": text, "description": text}],
}
# The tables of a tenant's database.
OF_TENANTS = ("runs", "prompts", "audit", "tenant_identity")


# -- rows ------------------------------------------------------------------------------------------------------------


def add_control_rows(world: World) -> dict[str, object]:
    """Add a row to each control table of `FILLABLE` that the world leaves empty.

    Return the ids in the addresses of the pages that show these rows.
    """
    tenant = world.ours.tenant
    now = timezone.now()
    batch = MigrationBatch.objects.create(
        kind=BatchKind.PROMPT_COPY, status=BatchStatus.COMPLETED, user_id="x", version="x", tenant_count=1
    )
    BatchTenant.objects.create(
        batch=batch, tenant_id=tenant.id, server="default", database="x", from_version="x", migrations=[], changes=[]
    )
    assert tenant.server is not None
    base = BaseBackup.objects.create(server=tenant.server, place="/x", name=uuid4().hex, user_id="x")
    group = TenantGroup.objects.create(name=uuid4().hex)
    user = User.objects.get(pk=str(world.ours.control["auth_user"]))
    LinkedIdentity.objects.create(user=user, issuer="x", subject=uuid4().hex, linked_at=now)
    RunSummary.objects.create(
        tenant=tenant,
        run_id=world.ours.filled.run.pk,
        status="failed",
        current_step="x",
        error_step="x",
        error="x",
        is_truncated=True,
        created_at=now,
        updated_at=now,
        ended_at=now,
    )
    counts = {"calls": 3, "unknown_calls": 1, "unpriced_calls": 1, "possible_usd": 1, "cost_usd": 1}
    DailyCost.objects.create(
        tenant=tenant, day=now.date(), step="x", provider="x", model="x", token_usage={"input": 1}, **counts
    )
    return {
        "tenants_migrationbatch": batch.pk,
        "tenants_basebackup": base.pk,
        "tenants_tenantgroup": group.pk,
        "sign_ins": user.pk,
    }


def add_call(filled: Filled) -> None:
    """Add a row for a call of the tenant's step; to be used in the tenant's context."""
    Call.objects.create(
        run=filled.run,
        step=filled.step,
        version=1,
        attempt=1,
        lease_token=1,
        llm_provider="x",
        llm_model="x",
        status=CallStatus.UNKNOWN,
        error_code="x",
        finish_reason="x",
        max_input_tokens=1,
        max_output_tokens=1,
    )


# -- filling ---------------------------------------------------------------------------------------------------------


def plant(using: str, *, of_tenant: bool) -> list[str]:
    """Write TEXT into one database's columns of `FILLABLE` and new log entries; return the columns that it refused.

    For the control database, call this in a transaction that is rolled back: other tests use the rows, too.
    """
    refused = _fill(TEXT, using, of_tenant=of_tenant)
    _write_entries(TEXT, using)
    return refused


def _fill(text: str, using: str, *, of_tenant: bool) -> list[str]:
    refused = []
    for label, names in FILLABLE.items():
        if label == "llm.LLMPrice":
            # A row that never changes.
            if not of_tenant:
                _add_price(names, text)
            continue
        if (label.split(".")[0] in OF_TENANTS) != of_tenant:
            continue
        model = apps.get_model(label)
        assert model._base_manager.using(using).exists(), f"{label} has no row that could be filled."
        for name in names.split():
            try:
                with transaction.atomic(using=using):
                    _fill_column(model._base_manager.using(using), model._meta.get_field(name), text)
            except DatabaseError as error:
                refused.append(f"{label}.{name}: {str(error).splitlines()[0]}")
    return refused


def _add_price(names: str, text: str) -> None:
    priced = LLMModel.objects.order_by("pk")[0]
    prices: dict[str, Any] = {"model_id": priced.pk, "valid_from": date(2020, 1, 1), "prices": {"input": "1"}}
    LLMPrice.objects.create(source="hand", **dict.fromkeys(names.split(), text), **prices)


def _fill_column(rows: models.QuerySet[Any], field: Any, text: str) -> None:
    if isinstance(field, models.JSONField) and field.name not in SHAPES:
        for row in rows.all():
            value = getattr(row, field.name)
            rows.filter(pk=row.pk).update(**{field.name: _in_json({} if value is None else value, text)})
    elif isinstance(field, models.JSONField):
        rows.update(**{field.name: SHAPES[field.name](text)})
    # Some columns are unique, alone or with others.
    elif field.unique or field.name in ("username", "subject", "model_name", "name", "step", "request_id"):
        for row in rows.all():
            mark = uuid4().hex[:6]
            value = text[: field.max_length - len(mark)] if field.max_length else text
            rows.filter(pk=row.pk).update(**{field.name: value + mark})
    else:
        rows.update(**{field.name: text[: field.max_length]})


def _in_json(value: object, text: str) -> object:
    if isinstance(value, dict):
        return {**{name: _in_json(one, text) for name, one in value.items()}, text: text}
    if isinstance(value, list):
        return [_in_json(one, text) for one in value]
    # Only the product writes ids, and a page that could not read one would show nothing else.
    return text if isinstance(value, str) and not _is_id(value) else value


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _write_entries(text: str, using: str) -> None:
    for action, resource in (("prompt.create", "prompt"), ("tenant.suspend", "tenant"), ("run.fail", "run")):
        with acting_as(text), transaction.atomic(using=using):
            details: dict[str, object] = {"name": text, "reason": text, "error": text, "changes": {text: [text, text]}}
            record(using=using, action=action, resource_type=resource, resource_id=text, details=details)
