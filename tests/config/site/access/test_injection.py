"""No page runs text from customers, models or staff as code: all fillable columns, both sites."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from html import escape
from html.parser import HTMLParser
from itertools import product

import pytest
from django.apps import apps
from django.db import models, transaction
from django.test import Client

from tenants.routing.context import tenant_context
from tests.config.site.access.planted import (
    EVALUATED,
    FILLABLE,
    TEXT,
    add_call,
    add_control_rows,
    plant,
)
from tests.config.site.access.rows import World, address_of, views, world
from tests.support.staff import make_user

__all__ = ["world"]

# Attributes that are addresses, and those that Alpine and htmx evaluate or request.
ADDRESSES = ("href", "src", "action", "formaction", "xlink:href", "hx-get", "hx-post")
CODE = ("on", "x-", "@", ":", "hx-on")

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
TEXTS = (models.CharField, models.TextField, models.JSONField)


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


# -- looking ---------------------------------------------------------------------------------------------------------


class _Acting(HTMLParser):
    """Collects the places where planted text has become markup or would run as code."""

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
        f"<p>{TEXT}</p>",
        f'<input value="{TEXT}">',
        f"<script>const name = '{TEXT}'</script>",
        f'<a href="{escape(TEXT)}">x</a>',
        f"<div x-data=\"{{name: '{escape(TEXT)}'}}\"></div>",
        f"<p>{EVALUATED}</p>",
    ],
)
def test_what_acts_is_found(html: str) -> None:
    assert acting(html)


# -- every view ------------------------------------------------------------------------------------------------------


@pytest.fixture
def superuser() -> Iterator[Client]:
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


def test_no_text_acts_on_any_page(world: World, superuser: Client) -> None:
    tenant = world.ours.tenant
    readers = {"superuser": superuser, **{role: world.some[role] for role in ("viewer", "operator")}}
    with tenant_context(tenant) as alias:
        add_call(world.ours.filled)
        refused = plant(alias, of_tenant=True)
    acted: dict[str, list[str]] = {}
    opened: Counter[str] = Counter()
    with transaction.atomic(using="default"):
        added = add_control_rows(world)
        refused += plant("default", of_tenant=False)
        for address, (name, reader) in product(pages(world, added), readers.items()):
            response = reader.get(address)
            assert response.status_code < 500, f"{address} as {name}"
            opened[name] += response.status_code == 200
            if found := acting(response.content.decode()):
                acted[f"{address} as {name}"] = found
        transaction.set_rollback(True, using="default")
    assert acted == {}
    assert refused == []
    assert (opened["superuser"] > 100, opened["operator"] > 50, opened["viewer"] > 40) == (True,) * 3
