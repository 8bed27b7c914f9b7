"""Versioned prompt templates of one tenant.

The admin lets people edit drafts only. Once a run has pinned a version (`used_at`), a trigger keeps
it from being deleted, and lets only `is_active` and `replaced_at` change (migrations 0002, 0005).
"""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from config.base.fields import SerialField, SqlNow


class Prompt(models.Model):
    id = SerialField(primary_key=True)
    step = models.TextField(_("step"))
    version = models.IntegerField(_("version"))
    content = models.TextField(_("template"))
    # A list of `prompts.types.PromptVariable` documents.
    variables = models.JSONField(_("variables"), null=True, blank=True)
    is_active = models.BooleanField(_("active"), db_default=True)
    # When a run first pinned this version.
    used_at = models.DateTimeField(_("first used"), null=True, blank=True)
    created_at = models.DateTimeField(_("created"), db_default=SqlNow())
    # -- beyond the specification --
    # Who saved it: an actor, as in the audit log. None, like the note, for versions of releases before these columns.
    author = models.TextField(_("author"), null=True, blank=True)
    # What the version changes, and why.
    note = models.TextField(_("note"), null=True, blank=True)
    # When it last stopped being active: `prompt activate --previous` returns to the latest of these.
    replaced_at = models.DateTimeField(_("replaced"), null=True, blank=True)

    class Meta:
        db_table = "prompts"
        verbose_name = _("prompt")
        verbose_name_plural = _("prompts")
        ordering: ClassVar = ["step", "-version"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["step", "version"], name="prompts_step_version_key"),
            models.UniqueConstraint(fields=["step"], condition=Q(is_active=True), name="prompts_one_active_per_step"),
        ]

    def __str__(self) -> str:
        return f"{self.step} v{self.version}"
