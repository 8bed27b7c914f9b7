"""SQL that is recorded once and replayed in every tenant does what Django itself would have done there."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader

from tenants.fleet.migrate import tenant_migrate
from tenants.models import Tenant
from tenants.routing.owner_connection import owner_connection
from tenants.schema.catalog import catalog_read
from tenants.schema.grants import grant_statements
from tenants.schema.inspection import database_of
from tenants.schema.recorded_sql import is_same_everywhere
from tenants.schema.releases import release
from tests.support.releases import NextRelease
from tests.support.tenant_fixtures import MakeTenant
from tests.tenants.support.fleets import as_owner, catalog_of, history_of

pytestmark = pytest.mark.usefixtures("empty_fleet")

# One of each sort: schema, SQL with a percent sign and a comment at its end, rows, a value computed at run time, a
# deferred constraint with pending events, and a rename on top of all that.
MIXED = {
    "0003_schema": """
    operations = [
        migrations.CreateModel(
            name="Note",
            fields=[
                ("id", models.BigAutoField(primary_key=True)),
                ("run", models.ForeignKey("runs.Run", on_delete=models.CASCADE)),
                ("text", models.TextField(default="100 %s")),
            ],
            options={"db_table": "run_notes"},
        ),
        migrations.RunSQL("UPDATE runs SET current_step = current_step WHERE status LIKE 'c%' -- all of them"),
        migrations.AddField("Run", "label", models.TextField(default="it's 100 %", db_default="x")),
    ]
""",
    "0004_rows": """
    operations = [
        migrations.AddField("Note", "token", models.UUIDField(default=uuid.uuid4)),
        migrations.AddIndex("Note", models.Index(fields=["text"], name="notes_by_text")),
        migrations.RunPython(add_notes),
    ]
""",
    "0005_after_events": """
    operations = [
        migrations.AddField("Note", "extra", models.IntegerField(default=7), preserve_default=False),
        migrations.AlterField("Note", "text", models.CharField(max_length=200)),
        migrations.RenameField("Note", "text", "body"),
        migrations.AddConstraint("Note", models.CheckConstraint(condition=~models.Q(body=""), name="notes_not_empty")),
        migrations.SeparateDatabaseAndState([migrations.RunSQL("COMMENT ON TABLE run_notes IS '50 %; done'")]),
    ]
""",
}
ADD_NOTES = """
import uuid

def add_notes(apps, schema_editor):
    alias = schema_editor.connection.alias
    Note, Run = apps.get_model("runs", "Note"), apps.get_model("runs", "Run")
    for run in Run.objects.using(alias).order_by("created_at"):
        Note.objects.using(alias).create(run=run, text=f"of {run.status}", token=uuid.uuid4())
"""


def mixed(folder: Path) -> NextRelease:
    following = NextRelease(folder)
    for name, operations in MIXED.items():
        following.add(name, operations, code=ADD_NOTES)
    return following


def test_result_equals_djangos_migrate(make_tenant: MakeTenant, tmp_path: Path) -> None:
    ours, djangos = make_tenant(), make_tenant()
    for tenant in (ours, djangos):
        with as_owner(tenant) as connection:
            connection.execute("INSERT INTO runs (status) VALUES ('completed'), ('failed')")
    with mixed(tmp_path / "release").active():
        migrate_with_django(djangos)
        report = tenant_migrate(tenant_id=ours.id)
        assert report.problems == []
        assert history_of(ours) == history_of(djangos)
    assert catalog_of(ours) == catalog_of(djangos)
    rows = "SELECT run_id IS NOT NULL, body, extra, token IS NOT NULL FROM run_notes ORDER BY body"
    labels = "SELECT label, obj_description('run_notes'::regclass) FROM runs"
    with as_owner(ours) as first, as_owner(djangos) as second:
        for query in (rows, labels):
            assert first.execute(query).fetchall() == second.execute(query).fetchall() != []


def test_values_of_the_moment_are_each_tenants_own(make_tenant: MakeTenant, tmp_path: Path) -> None:
    tenants = [make_tenant(), make_tenant()]
    following = NextRelease(tmp_path / "release")
    following.add(
        "0003_token",
        '    operations = [migrations.AddField("Run", "token", models.UUIDField(default=uuid.uuid4))]',
        code="import uuid",
    )
    tokens = set()
    for tenant in tenants:
        with as_owner(tenant) as connection:
            connection.execute("INSERT INTO runs (status) VALUES ('completed')")
    with following.active():
        assert tenant_migrate().outcome == "completed"
    for tenant in tenants:
        with as_owner(tenant) as connection:
            tokens.update(connection.execute("SELECT token FROM runs").fetchall())
    assert len(tokens) == 2


def test_sql_is_repeated_and_python_is_run() -> None:
    from django.db import migrations, models

    field = models.TextField(default="x")
    assert is_same_everywhere(migrations.AddField("Run", "a", field))
    assert is_same_everywhere(migrations.AddField("Run", "a", models.JSONField(default=dict)))
    assert is_same_everywhere(migrations.RunSQL("SELECT 1"))
    assert not is_same_everywhere(migrations.AddField("Run", "a", models.DateTimeField(auto_now_add=True)))
    assert not is_same_everywhere(migrations.RunPython(migrations.RunPython.noop))
    assert not is_same_everywhere(migrations.SeparateDatabaseAndState([migrations.RunPython(lambda *_: None)]))

    class Surprising(migrations.AddField):
        """Does something unknown."""

    assert not is_same_everywhere(Surprising("Run", "a", field))


def test_squashed_and_replaced_migrations_are_equivalent(make_tenant: MakeTenant, tmp_path: Path) -> None:
    first = '    operations = [migrations.AddField("Run", "a", models.TextField(null=True))]'
    second = '    operations = [migrations.AddField("Run", "b", models.TextField(null=True))]'
    squash = """
    replaces = [("runs", "0003_a"), ("runs", "0004_b")]
    operations = [
        migrations.AddField("Run", "a", models.TextField(null=True)),
        migrations.AddField("Run", "b", models.TextField(null=True)),
    ]
"""
    originals = NextRelease(tmp_path / "originals").add("0003_a", first)
    with originals.active():
        partly = make_tenant()
    originals.add("0004_b", second)
    with originals.active():
        fully = make_tenant()
    fresh = make_tenant()
    # The squashed one stands beside those that it replaces, as Django's manual has it.
    both = NextRelease(tmp_path / "both").add("0003_a", first).add("0004_b", second)
    both.add("0003_squashed_0004_b", squash, after="0002_guards_and_costs")
    with both.active():
        report = tenant_migrate()
        assert report.problems == []
        assert {outcome.tenant_id for outcome in report.tenants} == {partly.id, fresh.id}
        assert {release().is_complete(history_of(tenant)) for tenant in (partly, fully, fresh)} == {True}
    assert catalog_of(partly) == catalog_of(fully) == catalog_of(fresh)


def test_grants_follow_the_models(tenant: Tenant) -> None:
    assert tenant.server is not None
    with as_owner(tenant) as connection:
        connection.execute("REVOKE INSERT ON runs FROM seo_gen_tenant; GRANT DELETE ON audit_logs TO seo_gen_tenant")
        connection.execute("CREATE TABLE unknown (id serial)")
    with owner_connection(tenant.server, database_of(tenant), "test") as connection:
        statements = grant_statements(connection)
        assert statements == [
            'REVOKE DELETE ON TABLE "public"."audit_logs" FROM "seo_gen_tenant"',
            'GRANT INSERT ON TABLE "public"."runs" TO "seo_gen_tenant"',
            'GRANT USAGE ON SEQUENCE "public"."unknown_id_seq" TO "seo_gen_tenant"',
        ]
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        assert grant_statements(connection) == []
        assert "seo_gen_tenant" not in catalog_read(connection)["grant unknown"]


def migrate_with_django(tenant: Tenant) -> None:
    """Migrate as `manage.py migrate` does, in one transaction per migration; then grant the product's privileges."""
    assert tenant.server is not None
    with owner_connection(tenant.server, database_of(tenant), "test") as connection:
        executor = MigrationExecutor(connection)
        executor.migrate([key for key in MigrationLoader(None).graph.leaf_nodes() if key in release().migrations])
        with connection.cursor() as cursor:
            for statement in grant_statements(connection):
                cursor.execute(statement)
