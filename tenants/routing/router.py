"""Choose each model's database according to its app. The models of tenant apps never use the control database."""

from typing import Any

from django.db.models import Model

from config.base.databases import CONTROL
from tenants.routing.active import OWNER_PREFIX, current_tenant, is_tenant_database, require

# Labels of the apps whose tables live in every tenant's database. All other apps live in the control database.
TENANT_APPS = frozenset({"tenant_identity", "audit", "prompts", "runs"})


def is_tenant_app(app_label: str) -> bool:
    return app_label in TENANT_APPS


class TenantRouter:
    """Route tenant apps to the active tenant and the rest to `default`; see docs/adr/0002-tenancy.md.

    A relation of a row that was read as the owner stays on that connection. Never returns None: Django would treat that
    as `default`. Raises `NoActiveTenant`, or `WrongTenantActive` for an object of another tenant.
    """

    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        if not is_tenant_app(model._meta.app_label):
            return CONTROL
        instance = hints.get("instance")
        if instance is not None and (instance._state.db or "").startswith(OWNER_PREFIX):
            # A data migration can follow a relation of a row that it read as the owner; no tenant is active there.
            return str(instance._state.db)
        alias = current_tenant(model.__name__).alias
        if instance is not None and is_tenant_database(instance._state.db or ""):
            # Saving or refreshing an object of tenant A while B is active must not touch B's row with the same primary
            # key.
            require(instance._state.db)
        return alias

    db_for_write = db_for_read

    def allow_relation(self, obj1: Model, obj2: Model, **hints: Any) -> bool:
        """Allow relations only within one database; an unsaved object joins the other object's database."""
        sides = {is_tenant_app(obj._meta.app_label) for obj in (obj1, obj2)}
        databases = {obj._state.db for obj in (obj1, obj2)} - {None}
        return len(sides) == 1 and len(databases) <= 1

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return is_tenant_database(db) == is_tenant_app(app_label)
