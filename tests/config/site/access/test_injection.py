"""What customers, models and staff can enter acts on no page: every text column × every view of both sites."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import date
from html.parser import HTMLParser
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.db import DatabaseError, models, transaction
from django.test import Client
from django.utils import timezone

from audit.log.actor import acting_as
from audit.log.entries import record
from config.site.sign_in.models import LinkedIdentity
from llm.models import LLMModel, LLMPrice
from llm.types import Fallback
from runs.models import Call, CallStatus
from runs.summaries.models import DailyCost, RunSummary
from tenants.models import BaseBackup, BatchKind, BatchStatus, BatchTenant, MigrationBatch, TenantGroup
from tenants.routing.context import tenant_context
from tests.config.site.access.rows import World, address_of, views, world
from tests.support.staff import make_user

__all__ = ["world"]

SUM = "7*7919"
# Markup that leaves a text, an attribute and a script; expressions of Django, Jinja, Alpine and JavaScript.
MARKUP = (
    f"zq\"'></title></textarea></script><zq-tag onclick=zq()><script>zq()</script>{{{{{SUM}}}}}{{% zq %}}${{{SUM}}}"
)
ADDRESS = "javascript:zq()//"
EVALUATED = str(7 * 7919)
# Attributes that are addresses, and those that Alpine and htmx evaluate or request.
ADDRESSES = ("href", "src", "action", "formaction", "xlink:href", "hx-get", "hx-post")
CODE = ("on", "x-", "@", ":", "hx-on")

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
# The rest is written by the product alone: ids, digests, addresses with passwords, states, places on disk. Entries of
# the logs cannot be changed, so they are written anew below.
FIXED = {
    "admin.LogEntry": "object_id object_repr change_message",
    "auth.Group": "name",
    "auth.Permission": "name codename",
    "auth.User": "password",
    "contenttypes.ContentType": "app_label model",
    "sessions.Session": "session_data",
    "tenants.DatabaseServer": "admin_url owner_password wal_archive wal_restore_command",
    "tenants.Tenant": "database_url schema_version schema_drift schema_fingerprint schema_stamp",
    "tenants.Approval": "tenant_id digest",
    "tenants.TenantOperation": "tenant_id kind",
    "tenants.Backup": "tenant_id place format manifest schema_version",
    "tenants.Restore": "tenant_id scratch live kept",
    "tenants.BaseBackup": "place system_identifier start_lsn stop_lsn",
    "tenants.RestorePoint": "name lsn reason tenant_id",
    "tenants.MigrationBatch": "tenant_id version timing_ms",
    "tenants.BatchTenant": "tenant_id server database from_version migrations locks",
    "tenants.Erasure": "tenant_id server database role accepts found certificate digest rewritten_segment",
    "tenants.FileRead": "tenant_id purpose place name sha256 user_id operation_id",
    "tenants.SchemaReference": "history version fingerprint catalog template",
    "tenants.OperationRequest": "tenant_id error_code",
    "tenant_identity.TenantIdentity": "tenant_id",
    "sign_in.StaffSession": "end_reason",
    "sign_in.FailedLogins": "name_digest address",
    "sign_in.SecondFactor": "secret",
    "sign_in.RecoveryCode": "digest",
    "audit.AuditLog": ("user_id action resource_type resource_id details previous_hash entry_hash operation_id"),
    "audit.AuditChainHead": "hash",
    "audit_control.ControlAuditLog": (
        "user_id action resource_type resource_id details previous_hash entry_hash operation_id"
    ),
    "audit_control.ControlAuditChainHead": "hash",
    "audit_control.AuditArchive": "tenant_id head_hash digest",
    "audit_control.ArchivedAuditLog": (
        "tenant_id previous_hash entry_hash user_id action resource_type resource_id details operation_id"
    ),
    "audit_control.AuditAnchor": "tenant_id hash guard_hash",
    "llm.LLMProvider": "key_variable",
    "llm.LLMPrice": "prices",
    "prompts.Prompt": "step",
    "runs.Step": "output_path output_digest",
    "runs.Artifact": "file_path digest",
    "runs.StepCost": "unpriced_tokens token_usage",
    "runs.RunCost": "unpriced_tokens tokens_by_unit",
    "run_summaries.RunSummary": "status pause_cause",
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
TEXTS = (models.CharField, models.TextField, models.JSONField)
# The tables of a tenant's database.
OF_TENANTS = ("runs", "prompts", "audit", "tenant_identity")


def text_columns() -> set[tuple[str, str]]:
    return {
        (model._meta.label, field.name)
        for model in apps.get_models()
        if not model._meta.proxy
        for field in model._meta.concrete_fields
        if isinstance(field, TEXTS) and not (field.primary_key or field.is_relation or field.choices)
    }


def columns_in(table: Mapping[str, str]) -> set[tuple[str, str]]:
    return {(label, name) for label, names in table.items() for name in names.split()}


def test_every_text_column_is_filled_or_said_to_be_the_products_own() -> None:
    assert columns_in(FILLABLE) | columns_in(FIXED) == text_columns()
    assert not columns_in(FILLABLE) & columns_in(FIXED)


# -- rows ------------------------------------------------------------------------------------------------------------


def add_control_rows(world: World) -> dict[str, object]:
    """Add a row to each control table of `FILLABLE` that the world leaves empty; return the ids of those with pages."""
    tenant = world.ours.tenant
    now = timezone.now()
    batch = MigrationBatch.objects.create(
        kind=BatchKind.PROMPT_COPY, status=BatchStatus.COMPLETED, user_id="x", version="x", tenant_count=1
    )
    BatchTenant.objects.create(
        batch=batch, tenant_id=tenant.id, server="default", database="x", from_version="x", migrations=[], changes=[]
    )
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


def add_call(world: World) -> None:
    """Add a call of the step; call in the tenant's context."""
    filled = world.ours.filled
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


def fill(text: str, using: str, *, of_tenant: bool) -> list[str]:
    """Write the text into each of the columns, in every row; return the columns that the database refused."""
    refused = []
    for label, names in FILLABLE.items():
        if label == "llm.LLMPrice":
            # A row that never changes.
            if not of_tenant:
                priced = LLMModel.objects.order_by("pk")[0]
                prices: dict[str, Any] = {
                    "model_id": priced.pk,
                    "valid_from": date(2020, 1, 1),
                    "prices": {"input": "1"},
                }
                LLMPrice.objects.create(source="hand", **dict.fromkeys(names.split(), text), **prices)
            continue
        if (label.split(".")[0] in OF_TENANTS) != of_tenant:
            continue
        model = apps.get_model(label)
        assert model._base_manager.using(using).exists(), f"{label} has no row that could be filled."
        for name in names.split():
            for row in model._base_manager.using(using).all()[:200]:
                value = planted(getattr(row, name), text, model._meta.get_field(name))
                try:
                    with transaction.atomic(using=using):
                        model._base_manager.using(using).filter(pk=row.pk).update(**{name: value})
                except DatabaseError as error:
                    refused.append(f"{label}.{name}: {str(error).splitlines()[0]}")
    return sorted(set(refused))


def planted(value: object, text: str, field: Any) -> object:
    if isinstance(field, models.JSONField):
        if field.name in SHAPES:
            return SHAPES[field.name](text)
        return in_json({} if value is None else value, text)
    # Some columns are unique.
    unique = field.unique or field.name in ("username", "subject", "model_name", "name", "step", "request_id")
    return (
        f"{text}{uuid4().hex[:6]}"[-field.max_length :]
        if unique and field.max_length
        else (f"{text}{uuid4().hex[:6]}" if unique else (text[: field.max_length] if field.max_length else text))
    )


def in_json(value: object, text: str) -> object:
    if isinstance(value, dict):
        return {**{name: in_json(one, text) for name, one in value.items()}, text: text}
    if isinstance(value, list):
        return [in_json(one, text) for one in value]
    # Only the product writes ids, and a page that could not read one would show nothing else.
    return text if isinstance(value, str) and not is_id(value) else value


def is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


# -- looking ---------------------------------------------------------------------------------------------------------


class _Acting(HTMLParser):
    """Collects what an entered text would do in a browser."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_script = tag == "script"
        if tag == "zq-tag":
            self.found.append("markup became an element")
        for name, value in attrs:
            text = value or ""
            if name in ADDRESSES and text.strip().lower().startswith("javascript:"):
                self.found.append(f"{tag} {name}={text[:60]}")
            if ("zq" in text and name.startswith(CODE)) or "zq" in name:
                self.found.append(f"{tag} {name}={text[:60]} is code")

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script and "zq()" in data:
            self.found.append(f"in a script: {data[:60]}")


def acting(html: str) -> list[str]:
    parser = _Acting()
    parser.feed(html)
    parser.close()
    return parser.found + (["a template was evaluated"] if EVALUATED in html else [])


@pytest.mark.parametrize(
    "html",
    [
        f"<p>{MARKUP}</p>",
        f'<input value="{MARKUP}">',
        f"<script>const name = '{MARKUP}'</script>",
        f'<a href="{ADDRESS}">x</a>',
        "<div x-data=\"{name: 'zq'}\"></div>",
        f"<p>{EVALUATED}</p>",
    ],
)
def test_what_acts_is_found(html: str) -> None:
    assert acting(html)


# -- every view ------------------------------------------------------------------------------------------------------


@pytest.fixture
def reader() -> Iterator[Client]:
    user = make_user(is_superuser=True)
    client = Client()
    client.force_login(user)
    yield client
    user.delete()


def pages(world: World, added: Mapping[str, object]) -> Iterator[str]:
    for urlconf, prefix, ids in (
        ("config.urls", "/", {**world.ours.control, **world.installation, **added}),
        ("config.urls_tenant", f"/t/{world.ours.tenant.id}/", world.ours.own_site),
    ):
        for name, route in views(urlconf).items():
            address = address_of(name, route, ids, prefix)
            # Files are no pages: each has tests of its own.
            if address is not None and name != "logout" and not name.endswith(("_export", "_download")):
                yield address


@pytest.mark.parametrize("text", [MARKUP, ADDRESS], ids=["markup", "address"])
def test_no_text_acts_on_any_page(text: str, world: World, reader: Client) -> None:
    """The control database's rows are filled in a transaction that is undone: other tests use them too."""
    tenant = world.ours.tenant
    with tenant_context(tenant) as alias:
        add_call(world)
        refused = fill(text, alias, of_tenant=True)
        write_entries(text, alias)
    acted: dict[str, list[str]] = {}
    opened = 0
    with transaction.atomic(using="default"):
        added = add_control_rows(world)
        refused += fill(text, "default", of_tenant=False)
        write_entries(text, "default")
        for address in pages(world, added):
            response = reader.get(address)
            opened += response.status_code == 200
            assert response.status_code < 500, address
            if found := acting(response.content.decode()):
                acted[address] = found
        transaction.set_rollback(True, using="default")
    assert acted == {}
    assert refused == []
    assert opened > 100


def write_entries(text: str, using: str) -> None:
    for action, resource in (("prompt.create", "prompt"), ("tenant.suspend", "tenant"), ("run.fail", "run")):
        with acting_as(text), transaction.atomic(using=using):
            details: dict[str, object] = {"name": text, "reason": text, "error": text, "changes": {text: [text, text]}}
            record(using=using, action=action, resource_type=resource, resource_id=text, details=details)
