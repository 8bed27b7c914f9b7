import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import config.base.fields


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0014_budgets"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="TenantGroup",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.TextField(unique=True, verbose_name="name")),
                (
                    "tenants",
                    models.ManyToManyField(
                        blank=True, related_name="groups", to="tenants.tenant", verbose_name="tenants"
                    ),
                ),
            ],
            options={
                "verbose_name": "group of tenants",
                "verbose_name_plural": "groups of tenants",
                "db_table": "tenant_groups",
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="TemporaryAccess",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("user_name", models.TextField(verbose_name="user")),
                (
                    "role",
                    models.TextField(
                        choices=[
                            ("viewer", "viewer"),
                            ("editor", "editor"),
                            ("reviewer", "reviewer"),
                            ("operator", "operator"),
                            ("administrator", "administrator"),
                        ],
                        verbose_name="role",
                    ),
                ),
                ("reason", models.TextField(verbose_name="reason")),
                ("opened_at", models.DateTimeField(db_default=config.base.fields.SqlNow(), verbose_name="opened")),
                ("expires_at", models.DateTimeField(verbose_name="open until")),
                ("recorded_at", models.DateTimeField(editable=False, null=True)),
                ("closed_at", models.DateTimeField(null=True, verbose_name="closed")),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, to="tenants.tenant", verbose_name="tenant"
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="temporary_access",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "temporary access",
                "verbose_name_plural": "periods of temporary access",
                "db_table": "temporary_access",
                "ordering": ["-opened_at"],
                "indexes": [models.Index(fields=["user", "expires_at"], name="temporary_access_of_user")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("role__in", ["viewer", "editor", "reviewer", "operator", "administrator"])),
                        name="temporary_access_role_is_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("expires_at__gt", models.F("opened_at"))),
                        name="temporary_access_ends_after_it_began",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="RoleAssignment",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "role",
                    models.TextField(
                        choices=[
                            ("viewer", "viewer"),
                            ("editor", "editor"),
                            ("reviewer", "reviewer"),
                            ("operator", "operator"),
                            ("administrator", "administrator"),
                        ],
                        verbose_name="role",
                    ),
                ),
                (
                    "scope",
                    models.TextField(
                        choices=[("all", "all tenants"), ("group", "a group of tenants"), ("tenant", "one tenant")],
                        verbose_name="for",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        to="tenants.tenant",
                        verbose_name="tenant",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="role_assignments",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
                    ),
                ),
                (
                    "group",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        to="tenants.tenantgroup",
                        verbose_name="group of tenants",
                    ),
                ),
            ],
            options={
                "verbose_name": "role",
                "verbose_name_plural": "roles",
                "db_table": "role_assignments",
                "ordering": ["id"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("role__in", ["viewer", "editor", "reviewer", "operator", "administrator"])),
                        name="role_assignments_role_is_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("group", None), ("scope", "all"), ("tenant", None)),
                            models.Q(("group__isnull", False), ("scope", "group"), ("tenant", None)),
                            models.Q(("group", None), ("scope", "tenant"), ("tenant__isnull", False)),
                            _connector="OR",
                        ),
                        name="role_assignments_scope_is_one",
                    ),
                    models.UniqueConstraint(
                        fields=("user", "role", "scope", "group", "tenant"),
                        name="role_assignments_once",
                        nulls_distinct=False,
                    ),
                ],
            },
        ),
    ]
