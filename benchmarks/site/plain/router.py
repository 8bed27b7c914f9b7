"""Route the tenants' models to the database of the one tenant that is measured."""

from typing import Any

from django.db.models import Model

TENANT_APPS = {"runs", "prompts", "audit"}


class Router:
    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        return "tenant" if model._meta.app_label in TENANT_APPS else "default"

    db_for_write = db_for_read

    def allow_relation(self, one: Model, other: Model, **hints: Any) -> bool:
        return True
