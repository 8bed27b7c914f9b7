"""Admin pages for a tenant's runs, steps, artifacts and costs; staff can also start runs and download artifacts."""

from __future__ import annotations

import json
from decimal import Decimal
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import QuerySet, Sum
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from audit.log.entries import record
from config.base.errors import SeoGenError
from config.site.admin_base import (
    IndentedJSONField,
    ReadOnlyAdmin,
    ReadOnlyInline,
    as_badge,
    as_json,
    as_link,
    form_page,
)
from runs.config import MAX_KEYWORD_CHARS, RunConfig, config_from_document
from runs.models import Artifact, Run, RunCost, RunStatus, Step, StepStatus
from runs.services.create import run_create
from runs.services.read import run_read_record
from runs.storage import read
from tenants.routing.context import current_alias, current_tenant

RUN_COLORS = {
    RunStatus.PENDING: "info",
    RunStatus.RUNNING: "primary",
    RunStatus.PAUSED: "warning",
    RunStatus.COMPLETED: "success",
    RunStatus.FAILED: "danger",
}
STEP_COLORS = {
    StepStatus.PENDING: "info",
    StepStatus.RUNNING: "primary",
    StepStatus.COMPLETED: "success",
    StepStatus.FAILED: "danger",
}
DOWNLOAD_BLOCK_BYTES = 64 * 1024


class RunCreateForm(forms.Form):
    """Form with a field for each common input and JSON for the rest."""

    keyword = forms.CharField(
        label=gettext_lazy("Keyword"),
        max_length=MAX_KEYWORD_CHARS,
        widget=UnfoldAdminTextInputWidget,
        help_text=gettext_lazy("The search term that the article targets."),
    )
    language = forms.ChoiceField(
        label=gettext_lazy("Language"),
        choices=[("ja", gettext_lazy("Japanese")), ("en", gettext_lazy("English"))],
        widget=UnfoldAdminSelectWidget,
    )
    advanced = IndentedJSONField(
        label=gettext_lazy("Advanced"),
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"class": "seo-gen-code", "rows": 6, "spellcheck": "false"}),
        help_text=gettext_lazy(
            'Other prompt inputs, "steps" and "models" as JSON: {"audience": "beginners",'
            ' "models": {"draft": {"provider": "claude", "model_class": "pro"}}}.'
        ),
    )

    def clean_advanced(self) -> dict[str, Any]:
        advanced = self.cleaned_data["advanced"] or {}
        if not isinstance(advanced, dict):
            raise ValidationError(_('Enter a JSON object, such as {"audience": "beginners"}.'))
        for name in ("keyword", "language"):
            if name in advanced:
                raise ValidationError(_("Enter %(name)s in its own field above.") % {"name": name})
        return advanced

    def config(self) -> RunConfig:
        """Return the run's configuration; raise `InvalidRunConfig`."""
        given = self.cleaned_data
        return config_from_document({**given["advanced"], "keyword": given["keyword"], "language": given["language"]})


class StepInline(ReadOnlyInline):
    model = Step
    verbose_name_plural = gettext_lazy("steps")
    ordering = ("position",)
    fields = (
        *("step_link", "shown_status", "shown_model", "input_tokens", "output_tokens", "seconds", "retry_count"),
        *("summary", "error_message"),
    )
    readonly_fields = fields

    @admin.display(description=gettext_lazy("step"))
    def step_link(self, step: Step) -> SafeString:
        return as_link(reverse("admin:runs_step_change", args=[step.pk]), step.step)

    @admin.display(description=gettext_lazy("status"))
    def shown_status(self, step: Step) -> SafeString:
        return _step_badge(step)

    @admin.display(description=gettext_lazy("model"))
    def shown_model(self, step: Step) -> str:
        return _model(step)

    @admin.display(description=gettext_lazy("tokens in"))
    def input_tokens(self, step: Step) -> str | None:
        return _tokens(step, "input")

    @admin.display(description=gettext_lazy("tokens out"))
    def output_tokens(self, step: Step) -> str | None:
        return _tokens(step, "output")

    @admin.display(description=gettext_lazy("seconds"))
    def seconds(self, step: Step) -> str | None:
        return _seconds(step)


class ArtifactInline(ReadOnlyInline):
    model = Artifact
    verbose_name_plural = gettext_lazy("artifacts")
    fields = ("file_name", "step", "file_type", "size", "digest", "download")
    readonly_fields = fields

    @admin.display(description=gettext_lazy("file"))
    def file_name(self, artifact: Artifact) -> SafeString:
        return as_link(reverse("admin:runs_artifact_change", args=[artifact.pk]), _file_name(artifact))

    @admin.display(description=gettext_lazy("size"))
    def size(self, artifact: Artifact) -> str | None:
        return _size(artifact)

    @admin.display(description=gettext_lazy("content"))
    def download(self, artifact: Artifact) -> SafeString:
        return _download_link(artifact)


class RunPageAdmin(ReadOnlyAdmin):
    """Base for pages that show a run's inputs or outputs: each view writes an audit entry before it renders."""

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        shown = kwargs.get("obj")
        if isinstance(shown, (Run, Step)):
            run_read_record(alias=current_alias(), run_id=shown.pk if isinstance(shown, Run) else shown.run_id)
        return super().render_change_form(request, context, *args, **kwargs)


class RunAdmin(RunPageAdmin):
    audit_resource = "run"
    list_display = ("keyword", "shown_status", "progress", "shown_cost", "language", "created_at", "id")
    list_filter = ("status", "created_at")
    search_fields = ("id", "config__keyword")
    search_help_text = gettext_lazy("Id or keyword")
    ordering = ("-created_at",)
    inlines = (StepInline, ArtifactInline)
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("keyword", "language", "shown_status"),
                    ("shown_cost", "input_tokens", "output_tokens"),
                    ("created_at", "updated_at", "id"),
                    "shown_config",
                )
            },
        ),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("runs.add_run")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        runs: QuerySet[Run] = super().get_queryset(request)
        # Prefetch, so that only the runs on this page are totalled; a join would total every run first.
        return runs.prefetch_related("steps", "cost")

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = RunCreateForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            run = _start(form)
            if run is not None:
                messages.success(request, _("The run was started."))
                return HttpResponseRedirect(reverse("admin:runs_run_change", args=[run.pk]))
        return form_page(
            self,
            request,
            form,
            title=_("Start a run"),
            submit=_("Start"),
            explanation=_("The run uses the models and prompts that are active now; later changes do not affect it."),
        )

    @admin.display(description=gettext_lazy("keyword"))
    def keyword(self, run: Run) -> str | None:
        return _input(run, "keyword")

    @admin.display(description=gettext_lazy("language"))
    def language(self, run: Run) -> str | None:
        return _input(run, "language")

    @admin.display(description=gettext_lazy("status"), ordering="status")
    def shown_status(self, run: Run) -> SafeString:
        return as_badge(run.get_status_display(), RUN_COLORS[RunStatus(run.status)])

    @admin.display(description=gettext_lazy("steps"))
    def progress(self, run: Run) -> str:
        steps = list(run.steps.all())
        finished = sum(step.status == StepStatus.COMPLETED for step in steps)
        return _("%(finished)d of %(count)d") % {"finished": finished, "count": len(steps)}

    @admin.display(description=gettext_lazy("cost (USD)"))
    def shown_cost(self, run: Run) -> str | None:
        cost = _cost(run)
        return money(cost.total_llm_cost, cost.unpriced_steps) if cost else None

    @admin.display(description=gettext_lazy("input tokens"))
    def input_tokens(self, run: Run) -> str | None:
        cost = _cost(run)
        return count(cost.total_input_tokens) if cost else None

    @admin.display(description=gettext_lazy("output tokens"))
    def output_tokens(self, run: Run) -> str | None:
        cost = _cost(run)
        return count(cost.total_output_tokens) if cost else None

    @admin.display(description=gettext_lazy("configuration"))
    def shown_config(self, run: Run) -> SafeString | None:
        return as_json(run.config)


class StepAdmin(RunPageAdmin):
    audit_resource = "step"
    list_display = ("step", "run_link", "shown_status", "shown_model", "retry_count", "started_at", "seconds")
    list_filter = ("status", "step", "started_at")
    search_fields = ("=run__id",)
    search_help_text = gettext_lazy("A run's id")
    ordering = ("-id",)
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("step", "run_link", "shown_status"),
                    ("llm_provider", "llm_model", "prompt"),
                    ("started_at", "completed_at", "seconds"),
                    ("retry_count", "lease_owner", "lease_expires_at"),
                    "error_message",
                )
            },
        ),
        (
            gettext_lazy("Result"),
            {
                "fields": (
                    "summary",
                    "output_path",
                    "output_digest",
                    ("shown_usage", "cost_per_1k_input_tokens", "cost_per_1k_output_tokens"),
                    "shown_metrics",
                )
            },
        ),
    )

    @admin.display(description=gettext_lazy("run"))
    def run_link(self, step: Step) -> SafeString:
        return _run_link(step.run_id)

    @admin.display(description=gettext_lazy("status"), ordering="status")
    def shown_status(self, step: Step) -> SafeString:
        return _step_badge(step)

    @admin.display(description=gettext_lazy("model"), ordering="llm_model")
    def shown_model(self, step: Step) -> str:
        return _model(step)

    @admin.display(description=gettext_lazy("seconds"))
    def seconds(self, step: Step) -> str | None:
        return _seconds(step)

    @admin.display(description=gettext_lazy("token usage"))
    def shown_usage(self, step: Step) -> SafeString | None:
        return as_json(step.token_usage)

    @admin.display(description=gettext_lazy("metrics"))
    def shown_metrics(self, step: Step) -> SafeString | None:
        return as_json(step.metrics)


class ArtifactAdmin(ReadOnlyAdmin):
    audit_resource = "artifact"
    list_display = ("file_name", "step", "run_link", "file_type", "size", "created_at", "download_link")
    list_filter = ("step", "file_type", "created_at")
    search_fields = ("=run__id", "file_path")
    search_help_text = gettext_lazy("A run's id, or part of a path")
    ordering = ("-id",)
    fields = (
        *("file_name", "download_link", "run_link", "step", "file_type", "file_path", "digest", "size"),
        *("shown_metadata", "created_at"),
    )

    def get_custom_urls(self) -> Any:
        return (("<int:artifact_id>/download/", "runs_artifact_download", self.download),)

    def download(self, request: HttpRequest, artifact_id: int, model_admin: object) -> HttpResponseBase:
        """Send the file once its digest is verified and the download is recorded in the audit log.

        Always sent as an attachment: text that an LLM wrote must not run in a staff member's browser.
        """
        if not self.has_view_permission(request):
            raise PermissionDenied
        alias = current_alias()
        artifact = Artifact.objects.using(alias).filter(pk=artifact_id).first()
        if artifact is None:
            raise Http404
        content = read(artifact.file_path, artifact.digest)
        with transaction.atomic(using=alias):
            record(
                using=alias,
                action="artifact.read",
                resource_type="artifact",
                resource_id=str(artifact.pk),
                details={"run_id": str(artifact.run_id), "path": artifact.file_path, "digest": artifact.digest},
            )
        response = FileResponse(
            BytesIO(content),
            as_attachment=True,
            filename=_file_name(artifact),
            content_type="application/octet-stream",
        )
        response.block_size = DOWNLOAD_BLOCK_BYTES
        return response

    @admin.display(description=gettext_lazy("file"), ordering="file_path")
    def file_name(self, artifact: Artifact) -> str:
        return _file_name(artifact)

    @admin.display(description=gettext_lazy("run"))
    def run_link(self, artifact: Artifact) -> SafeString:
        return _run_link(artifact.run_id)

    @admin.display(description=gettext_lazy("size"))
    def size(self, artifact: Artifact) -> str | None:
        return _size(artifact)

    @admin.display(description=gettext_lazy("content"))
    def download_link(self, artifact: Artifact) -> SafeString:
        return _download_link(artifact)

    @admin.display(description=gettext_lazy("metadata"))
    def shown_metadata(self, artifact: Artifact) -> SafeString | None:
        return as_json(artifact.metadata)


class RunCostAdmin(ReadOnlyAdmin):
    audit_resource = "run"
    list_display = ("run_link", "created_at", "input_tokens", "output_tokens", "shown_cost")
    list_display_links = None
    list_filter = ("run__created_at", "run__status")
    list_select_related = ("run",)
    ordering = ("-run__created_at",)
    fields = ("run_link", "input_tokens", "output_tokens", "shown_cost", "unpriced_steps")
    list_before_template = "admin/run_cost_totals.html"

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        totals = RunCost.objects.aggregate(
            cost=Sum("total_llm_cost"),
            input_tokens=Sum("total_input_tokens"),
            output_tokens=Sum("total_output_tokens"),
            unpriced=Sum("unpriced_steps"),
        )
        shown = {
            "cost": money(totals["cost"], totals["unpriced"] or 0),
            "input_tokens": count(totals["input_tokens"]),
            "output_tokens": count(totals["output_tokens"]),
        }
        return super().changelist_view(request, {**(extra_context or {}), "totals": shown})

    @admin.display(description=gettext_lazy("input tokens"), ordering="total_input_tokens")
    def input_tokens(self, cost: RunCost) -> str | None:
        return count(cost.total_input_tokens)

    @admin.display(description=gettext_lazy("output tokens"), ordering="total_output_tokens")
    def output_tokens(self, cost: RunCost) -> str | None:
        return count(cost.total_output_tokens)

    @admin.display(description=gettext_lazy("run"))
    def run_link(self, cost: RunCost) -> SafeString:
        return _run_link(cost.run_id, _input(cost.run, "keyword"))

    @admin.display(description=gettext_lazy("created"), ordering="run__created_at")
    def created_at(self, cost: RunCost) -> object:
        return cost.run.created_at

    @admin.display(description=gettext_lazy("cost (USD)"), ordering="total_llm_cost")
    def shown_cost(self, cost: RunCost) -> str | None:
        return money(cost.total_llm_cost, cost.unpriced_steps)


def count(number: int | None) -> str | None:
    """Format a count with thousands separators."""
    return None if number is None else f"{number:,}"


def money(amount: Decimal | None, unpriced_steps: int) -> str | None:
    """Format US dollars to a hundredth of a cent. An unknown price is never shown as 0; None is shown as "-"."""
    if amount is None:
        return _("unknown") if unpriced_steps else None
    shown = f"{amount:,.4f}"
    return _("at least %(amount)s") % {"amount": shown} if unpriced_steps else shown


def _start(form: RunCreateForm) -> Run | None:
    try:
        return run_create(tenant_id=current_tenant().id, config=form.config())
    except SeoGenError as error:
        form.add_error(None, str(error))
        return None


def _input(run: Run, name: str) -> str | None:
    value = run.config.get(name) if isinstance(run.config, dict) else None
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cost(run: Run) -> RunCost | None:
    return getattr(run, "cost", None)


def _model(step: Step) -> str:
    return f"{step.llm_provider or '?'}/{step.llm_model or '?'}"


def _step_badge(step: Step) -> SafeString:
    return as_badge(step.get_status_display(), STEP_COLORS[StepStatus(step.status)])


def _tokens(step: Step, kind: str) -> str | None:
    return count(step.token_usage.get(kind)) if isinstance(step.token_usage, dict) else None


def _seconds(step: Step) -> str | None:
    if step.started_at is None or step.completed_at is None:
        return None
    return f"{(step.completed_at - step.started_at).total_seconds():,.1f}"


def _file_name(artifact: Artifact) -> str:
    return PurePosixPath(artifact.file_path).name


def _size(artifact: Artifact) -> str | None:
    size_bytes = artifact.metadata.get("size_bytes") if isinstance(artifact.metadata, dict) else None
    return f"{size_bytes:,} B" if isinstance(size_bytes, int) else None


def _run_link(run_id: object, text: str | None = None) -> SafeString:
    return as_link(reverse("admin:runs_run_change", args=[run_id]), text or run_id)


def _download_link(artifact: Artifact) -> SafeString:
    return as_link(reverse("admin:runs_artifact_download", args=[artifact.pk]), _("Download"))
