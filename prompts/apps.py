"""Versioned prompt templates, stored in each tenant's database."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class PromptsConfig(AppConfig):
    name = "prompts"
    verbose_name = _("Prompts")

    def ready(self) -> None:
        from tenants.app_hooks import register_operation

        # By name, as the modules import models. The kinds are `tenants.models.RequestKind`s.
        register_operation("prompt_copy", "prompts.fleet.requested.copy_requested")
        register_operation("prompt_undo", "prompts.fleet.requested.undo_requested")
