"""The page that starts several runs: it reads a list, shows it with an estimate of the cost, then starts the runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from unfold.widgets import UnfoldAdminFileFieldWidget, UnfoldAdminTextareaWidget

from config.base.errors import SeoGenError, joined
from config.base.json_text import parse_json
from config.base.output import dollars
from config.site.admin_base import StaffAdmin
from runs.admin.cells import input_label, language_name
from runs.admin.start import INPUT, RunCreateForm
from runs.config import config_from_document
from runs.errors import InvalidRunConfig, InvalidRunList
from runs.presentation.cost import at_least
from runs.series.estimate import Estimate, estimate
from runs.series.inputs import COMMON, declared_inputs
from runs.series.rows import MAX_BYTES, MAX_ROWS, SHOWN_PROBLEMS, ListedRow, decoded, listed_rows, repeated
from runs.series.start import SeriesReport, series_id_of, series_start
from runs.steps.budget import usd
from tenants.routing.context import current_alias, current_tenant

FILTER = "series"


class SeriesForm(RunCreateForm):
    """The list, and what all its runs have in common."""

    text = forms.CharField(
        label=gettext_lazy("List"),
        required=False,
        strip=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 8, "spellcheck": "false"}),
        help_text=gettext_lazy(
            "One keyword per line, or a CSV, such as cells pasted from a spreadsheet. A CSV's first line names the"
            " columns, which must include keyword."
        ),
    )
    file = forms.FileField(
        label=gettext_lazy("Or a CSV file"),
        required=False,
        widget=UnfoldAdminFileFieldWidget(attrs={"accept": ".csv,.tsv,.txt,text/csv"}),
        help_text=gettext_lazy("UTF-8 or Shift_JIS, as Excel saves it."),
    )

    rows: list[ListedRow]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        del self.fields["keyword"]
        own = (INPUT + name for name in self.inputs)
        self.order_fields(["nonce", "text", "file", "language", *own, "hold", "advanced"])

    def clean(self) -> dict[str, Any]:
        given = forms.Form.clean(self) or {}
        if self.errors:
            return given
        if given["text"].strip() and given["file"]:
            raise ValidationError(_("Enter a list or choose a file, not both."))
        if not given["text"].strip() and not given["file"]:
            raise ValidationError(_("Enter a list, or choose a CSV file."))
        try:
            text = decoded(given["file"].read(MAX_BYTES + 1)) if given["file"] else given["text"]
            self.rows = listed_rows(text, inputs=self.inputs.values(), common=self._common())
        except InvalidRunList as error:
            raise ValidationError(_shown(error)) from error
        return given

    def _common(self) -> dict[str, Any]:
        given = self.cleaned_data
        values = {name: given[INPUT + name] for name in self.inputs if given[INPUT + name] not in (None, "", [])}
        return {**given["advanced"], **values, "language": given["language"]}


class PreviewForm(forms.Form):
    """The rows of a valid list, whose runs are to be started."""

    nonce = forms.UUIDField(widget=forms.HiddenInput)
    hold = forms.BooleanField(widget=forms.HiddenInput, required=False)
    rows = forms.CharField(widget=forms.HiddenInput, strip=False, max_length=MAX_BYTES)

    def clean_rows(self) -> list[ListedRow]:
        """Return the rows, which are checked again because they come from the browser."""
        try:
            rows = [
                ListedRow(int(line), config_from_document(config))
                for line, config in parse_json(self.cleaned_data["rows"])
            ]
        except (ValueError, TypeError, OverflowError, InvalidRunConfig) as error:
            raise ValidationError(_("The list could not be read. Enter it again.")) from error
        if not 0 < len(rows) <= MAX_ROWS or len({row.line for row in rows}) < len(rows):
            raise ValidationError(_("The list could not be read. Enter it again."))
        return rows


def series_page(admin: StaffAdmin, request: HttpRequest) -> HttpResponse:
    """Show the form; once it is sent, show the rows as they were understood; once those are sent, start their runs."""
    if request.method == "POST" and "rows" in request.POST:
        return _start(admin, request)
    inputs = declared_inputs(alias=current_alias())
    form = SeriesForm(request.POST or None, request.FILES or None, inputs=inputs, initial={"nonce": uuid4()})
    if request.method == "POST" and form.is_valid():
        try:
            return _preview(admin, request, form)
        except SeoGenError as error:
            form.add_error(None, str(error))
    columns = ", ".join([*COMMON, *(one.name for one in inputs)])
    context = {"form": form, "columns": columns, "max_rows": MAX_ROWS, "max_kib": MAX_BYTES // 1024}
    return _page(admin, request, "admin/run_series.html", {**context, "media": admin.media + form.media})


def _preview(admin: StaffAdmin, request: HttpRequest, form: SeriesForm) -> HttpResponse:
    text = json.dumps([[row.line, row.config.document()] for row in form.rows], ensure_ascii=False)
    if len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise InvalidRunList(
            [
                _("With the form's values added to each line, the list is larger than %(limit)d KiB.")
                % {"limit": MAX_BYTES // 1024}
            ],
            hint=_("Split the list."),
        )
    found = estimate(alias=current_alias(), config=form.rows[0].config, runs=len(form.rows))
    given = form.cleaned_data
    sent = PreviewForm(initial={"nonce": given["nonce"] or uuid4(), "hold": given["hold"], "rows": text})
    return _page(admin, request, "admin/run_series_preview.html", _previewed(sent, form.rows, found, given["hold"]))


def _previewed(form: PreviewForm, rows: Sequence[ListedRow], found: Estimate, hold: bool) -> dict[str, Any]:
    columns = list(dict.fromkeys(name for row in rows for name in row.config.inputs))
    return {
        "form": form,
        "columns": [input_label(name) for name in columns],
        "rows": [(row.line, [_cell(name, row.config.inputs.get(name)) for name in columns]) for row in rows],
        "repeated": repeated(rows),
        "estimate": found,
        "steps": [
            (step, _tokens(step.input_tokens), _tokens(step.output_tokens), _money(step.cost)) for step in found.steps
        ],
        "all_runs": ngettext("%(n)d run", "%(n)d runs", found.runs) % {"n": found.runs},
        "per_run": _sum(found.known, found),
        "total": _sum(found.total, found),
        "used": usd(found.used),
        "monthly_budget": usd(found.monthly_budget) if found.monthly_budget is not None else None,
        "run_budget": usd(found.run_budget) if found.run_budget is not None else None,
        "hold": hold,
        "submit_text": ngettext("Start %(n)d run", "Start %(n)d runs", len(rows)) % {"n": len(rows)},
    }


def _start(admin: StaffAdmin, request: HttpRequest) -> HttpResponse:
    form = PreviewForm(request.POST)
    if not form.is_valid():
        messages.error(request, joined(*(str(text) for texts in form.errors.values() for text in texts)))
        return HttpResponseRedirect(reverse("admin:runs_run_series"))
    nonce: UUID = form.cleaned_data["nonce"]
    rows: list[ListedRow] = form.cleaned_data["rows"]
    hold: bool = form.cleaned_data["hold"]
    series_id = series_id_of(nonce, rows, hold=hold)
    report = series_start(tenant_id=current_tenant().id, series_id=series_id, rows=rows, hold=hold)
    if report.left == 0:
        messages.success(request, _all_started(report))
        return HttpResponseRedirect(f"{reverse('admin:runs_run_changelist')}?{FILTER}={series_id}")
    context = {
        "form": form,
        "report": report,
        "said": _partly_started(report, len(rows)),
        "runs_url": f"{reverse('admin:runs_run_changelist')}?{FILTER}={series_id}",
        "submit_text": ngettext("Start the remaining run", "Start the remaining %(n)d runs", report.left)
        % {"n": report.left},
    }
    return _page(admin, request, "admin/run_series_stopped.html", context)


def _all_started(report: SeriesReport) -> str:
    if not report.started:
        return ngettext(
            "This run had already been created, so it was not created again.",
            "These runs had already been created, so none was created again.",
            report.earlier,
        )
    started = ngettext("%(n)d run was created.", "%(n)d runs were created.", report.started) % {"n": report.started}
    if not report.earlier:
        return started
    earlier = ngettext(
        "%(n)d run had already been created.", "%(n)d runs had already been created.", report.earlier
    ) % {"n": report.earlier}
    return joined(started, earlier)


def _partly_started(report: SeriesReport, count: int) -> str:
    done = report.started + report.earlier
    return _("Runs created: %(done)d of %(count)d.") % {"done": done, "count": count}


def _shown(error: InvalidRunList) -> list[str]:
    """Return sentences: the first wrong lines, how many more there are, what to do, and that no run was started."""
    shown = error.problems[:SHOWN_PROBLEMS]
    more = len(error.problems) - len(shown)
    if more:
        shown.append(ngettext("%(n)d more line has an error.", "%(n)d more lines have errors.", more) % {"n": more})
    return [*shown, *([error.hint] if error.hint else []), _("No run was started.")]


def _cell(name: str, value: object) -> str:
    if name == "language" and isinstance(value, str):
        return language_name(value)
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _tokens(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def _money(amount: Any) -> str:
    return _("unknown") if amount is None else dollars(round(amount, 6))


def _sum(amount: Any, found: Estimate) -> str:
    """Return an amount as text: "at least" that much if part of it is unknown, "unknown" if all of it is."""
    return at_least(_money(amount), amount is not None and not found.is_complete)


def _page(admin: StaffAdmin, request: HttpRequest, template: str, context: dict[str, Any]) -> TemplateResponse:
    common = {
        **admin.admin_site.each_context(request),
        "title": _("Start several runs"),
        "opts": admin.opts,
        "media": admin.media,
    }
    return TemplateResponse(request, template, {**common, **context})
