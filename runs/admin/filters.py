"""Filters for the lists of runs, steps and artifacts. They offer their choices without reading a large table."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy

from llm.selectors import pipeline


class StepFilter(admin.SimpleListFilter):
    """Offers the pipeline's steps. Finding those of earlier pipelines would mean reading all rows."""

    title = gettext_lazy("step")
    parameter_name = "step"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(step.step, step.step) for step in pipeline()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{self.parameter_name: self.value()}) if self.value() else queryset


class CurrentStepFilter(StepFilter):
    title = gettext_lazy("current step")
    parameter_name = "current_step"
