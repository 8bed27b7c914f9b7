"""Base for pages that show the inputs or outputs of runs."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse

from config.site.admin_base import (
    ReadOnlyAdmin,
)
from runs.models import Run, Step
from runs.services.read import run_read_record
from tenants.routing.context import current_alias


class RunPageAdmin(ReadOnlyAdmin):
    """Base for pages that show a run's inputs or outputs: each view of a run or a step is recorded first."""

    class Media:
        css: ClassVar = {"all": ("config/runs.css",)}
        js = ("config/copy.js",)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        shown = kwargs.get("obj")
        if isinstance(shown, (Run, Step)):
            run_read_record(alias=current_alias(), run_id=shown.pk if isinstance(shown, Run) else shown.run_id)
        return super().render_change_form(request, context, *args, **kwargs)
