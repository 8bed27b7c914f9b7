"""Admin pages for a tenant's runs, on which staff can also start and control them."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from config.base.times import to_minute
from config.site.admin_base import (
    as_badge,
)
from config.site.documents import as_document
from runs.admin.actions import FROM, REVIEW, RunActions
from runs.admin.cells import (
    RUN_COLORS,
    cost_of,
    elapsed,
    input_label,
    input_of,
    language_name,
    marked,
    money,
    shortened,
    shown_id,
    units,
)
from runs.admin.filters import CurrentStepFilter
from runs.admin.live import live_context, live_response
from runs.admin.page import RunPageAdmin
from runs.admin.review import review_page
from runs.admin.series import FILTER, series_page
from runs.admin.start import start_form, start_run
from runs.admin.texts import compare_page, texts_page
from runs.errors import UnknownRun
from runs.models import PauseCause, Run, RunStatus, StepStatus
from runs.selectors import cache_saving_of, run_get
from runs.services.read import run_read_record
from tenants.routing.context import current_alias

# How many characters of a text fit into a list.
KEYWORD_CHARS, ERROR_CHARS = 40, 60


class SeriesFilter(admin.SimpleListFilter):
    """Shows the runs of the series that the URL names. Staff reach it by a link."""

    title = gettext_lazy("series")
    parameter_name = FILTER

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(self.value() or "", _("Started together"))] if self.value() else []

    def has_output(self) -> bool:
        return self.value() is not None

    def queryset(self, request: HttpRequest, queryset: QuerySet[Run]) -> QuerySet[Run]:
        return queryset.filter(config__series_id=self.value()) if self.value() else queryset


UUID_FORM = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class RunAdmin(RunActions, RunPageAdmin):
    audit_resource = "run"
    list_display = ("keyword", "shown_status", "progress", "age", "error", "shown_cost", "created", "short_id")
    list_filter = ("status", "pause_cause", CurrentStepFilter, SeriesFilter, "created_at")
    search_fields = ("id", "config__keyword")
    search_help_text = gettext_lazy("ID or keyword")
    ordering = ("-created_at",)
    show_full_result_count = False
    change_form_template = "admin/run_change.html"
    fieldsets = (
        (
            gettext_lazy("Details"),
            {
                "fields": (
                    "shown_pause",
                    ("shown_units", "shown_saving", "shown_unpriced"),
                    ("created_at", "updated_at", "whole_id"),
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

    def get_custom_urls(self) -> Any:
        return (
            ("series/", "runs_run_series", self.series_view),
            ("reviews/", "runs_run_reviews", self.reviews_view),
            ("<uuid:run_id>/live/", "runs_run_live", self.live_view),
            ("<uuid:run_id>/texts/", "runs_run_texts", self.texts_view),
            ("<uuid:run_id>/compare/", "runs_run_compare", self.compare_view),
        )

    def live_view(self, request: HttpRequest, run_id: UUID, model_admin: object) -> HttpResponse:
        self._require_view(request)
        return live_response(request, run_id, self._actions_of(request, str(run_id)))

    def reviews_view(self, request: HttpRequest, model_admin: object) -> HttpResponse:
        self._require_view(request, "runs.view_artifact", REVIEW)
        return review_page(self, request)

    def texts_view(self, request: HttpRequest, run_id: UUID, model_admin: object) -> HttpResponse:
        self._require_view(request, "runs.view_artifact")
        return texts_page(self, request, run_id)

    def compare_view(self, request: HttpRequest, run_id: UUID, model_admin: object) -> HttpResponse:
        self._require_view(request, "runs.view_artifact")
        return compare_page(self, request, run_id)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        run = kwargs.get("obj")
        if isinstance(run, Run):
            # The fragment shows the actions, so that they change with the run's state.
            offered = context.pop("actions_detail", None) or self._actions_of(request, str(run.pk))
            context |= {"actions_detail": [], "title": input_of(run, "keyword") or str(run.pk), "subtitle": None}
            context |= live_context(run.pk, offered) or {}
        return super().render_change_form(request, context, *args, **kwargs)

    def _actions_of(self, request: HttpRequest, run_id: str) -> Any:
        """Return the links to the actions that the run's state and the person's permissions allow."""
        theme: Any = self  # methods of unfold's, which has no types
        return theme._get_actions_navigation(self.actions_detail, theme.get_actions_detail(request, run_id), run_id)

    def _require_view(self, request: HttpRequest, *others: str) -> None:
        if not self.has_view_permission(request) or not all(map(request.user.has_perm, others)):
            raise PermissionDenied

    def series_view(self, request: HttpRequest, model_admin: object) -> HttpResponse:
        self._require_add(request)
        return series_page(self, request)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        self._require_add(request)
        form = start_form(data=request.POST or None, config=self._earlier_config(request))
        if request.method == "POST" and form.is_valid():
            started = start_run(form)
            if started is not None:
                run, is_new = started
                messages.success(request, _started(run) if is_new else _("This run had already been created."))
                return HttpResponseRedirect(reverse("admin:runs_run_change", args=[run.pk]))
        context = {
            **self.admin_site.each_context(request),
            "title": _("Start a run"),
            "form": form,
            "explanation": _(
                "The run uses the models and prompts that are active now. Later changes to the pipeline or the prompts"
                " do not affect it."
            ),
            "opts": self.opts,
            "media": self.media + form.media,
        }
        return TemplateResponse(request, "admin/run_start.html", context)

    def _require_add(self, request: HttpRequest) -> None:
        if not self.has_add_permission(request):
            raise PermissionDenied

    def _earlier_config(self, request: HttpRequest) -> object:
        """Return the configuration of the run that the URL names, and record the read.

        Returns None on POST, without the permission to view runs, or if the URL names no existing run.
        """
        if request.method == "POST" or not self.has_view_permission(request):
            return None
        alias = current_alias()
        try:
            run = run_get(alias=alias, run_id=request.GET[FROM]) if FROM in request.GET else None
        except UnknownRun as error:
            messages.error(request, str(error))
            return None
        if run is None:
            return None
        run_read_record(alias=alias, run_id=run.pk)
        return run.config

    @admin.display(description=gettext_lazy("keyword"), ordering="config__keyword")
    def keyword(self, run: Run) -> SafeString:
        return shortened(input_of(run, "keyword") or str(run.pk), KEYWORD_CHARS)

    def audit_names(self, request: HttpRequest, ids: Collection[str]) -> dict[str, str]:
        # An entry about a failed attempt may hold an id that is not a UUID.
        keys = [one for one in ids if UUID_FORM.fullmatch(one)]
        runs = Run.objects.using(current_alias()).filter(pk__in=keys).only("config") if keys else ()
        return {str(run.pk): input_of(run, "keyword") or "" for run in runs}

    @admin.display(description=gettext_lazy("status"), ordering="status")
    def shown_status(self, run: Run) -> SafeString:
        badge = as_badge(run.get_status_display(), RUN_COLORS[RunStatus(run.status)])
        shown = marked(badge, any(step.is_truncated for step in run.steps.all()))
        reason = run.get_pause_cause_display()
        return format_html('<div>{}</div><div class="seo-gen-words">{}</div>', shown, reason) if reason else shown

    @admin.display(description=gettext_lazy("current step"), ordering="current_step")
    def progress(self, run: Run) -> str:
        steps = list(run.steps.all())
        finished = sum(step.status == StepStatus.COMPLETED for step in steps)
        done = _("%(finished)d of %(count)d completed") % {"finished": finished, "count": len(steps)}
        return f"{run.current_step} ({done})" if run.current_step else done

    @admin.display(description=gettext_lazy("elapsed"))
    def age(self, run: Run) -> str:
        """Return the time since the run was created, up to its end if it is over."""
        return elapsed(run, timezone.now())

    @admin.display(description=gettext_lazy("error"))
    def error(self, run: Run) -> SafeString | None:
        errors = (step.error_message for step in run.steps.all() if step.step == run.current_step)
        message = next(errors, None)
        return shortened(message, ERROR_CHARS) if message else None

    @admin.display(description=gettext_lazy("created"), ordering="created_at")
    def created(self, run: Run) -> str:
        return to_minute(run.created_at)

    @admin.display(description=gettext_lazy("ID"), ordering="id")
    def short_id(self, run: Run) -> SafeString:
        return shown_id(run.pk)

    @admin.display(description="ID")
    def whole_id(self, run: Run) -> str:
        return str(run.pk)

    @admin.display(description=gettext_lazy("paused"))
    def shown_pause(self, run: Run) -> str | None:
        """Return why or by whom the run was paused, and when; None if it is not paused."""
        if run.pause_cause is None or run.paused_at is None:
            return None
        since = to_minute(run.paused_at)
        if run.pause_cause == PauseCause.REVIEW:
            return _("since %(time)s, for a review before step %(step)s") % {
                "step": run.current_step,
                "time": since,
            }
        if run.pause_cause == PauseCause.BUDGET:
            reasons = (step.error_message for step in run.steps.all() if step.step == run.current_step)
            return _("since %(time)s: %(reason)s") % {"time": since, "reason": next(reasons, None) or "-"}
        return _("by %(actor)s since %(time)s") % {"actor": run.paused_by, "time": since}

    @admin.display(description=gettext_lazy("cost (USD)"))
    def shown_cost(self, run: Run) -> str | None:
        cost = cost_of(run)
        return money(cost.total_llm_cost, cost.unpriced_steps, cost.unknown_calls) if cost else None

    @admin.display(description=gettext_lazy("token breakdown"))
    def shown_units(self, run: Run) -> str | None:
        cost = cost_of(run)
        return units(cost.tokens_by_unit) if cost else None

    @admin.display(description=gettext_lazy("saved by the cache (USD)"))
    def shown_saving(self, run: Run) -> str | None:
        saving = cache_saving_of(run.steps.all())
        return money(saving, 0, 0)

    @admin.display(description=gettext_lazy("tokens without a price"))
    def shown_unpriced(self, run: Run) -> str | None:
        cost = cost_of(run)
        return units(cost.unpriced_tokens) if cost else None

    @admin.display(description=gettext_lazy("configuration"))
    def shown_config(self, run: Run) -> SafeString | None:
        return as_document(_in_words(run.config), label=input_label)


def _in_words(config: Any) -> Any:
    """Return the configuration with the language's name in place of its code."""
    language = config.get("language") if isinstance(config, dict) else None
    return {**config, "language": language_name(language)} if isinstance(language, str) else config


def _started(run: Run) -> str:
    return _("The run was created and is paused.") if run.status == RunStatus.PAUSED else _("The run was started.")
