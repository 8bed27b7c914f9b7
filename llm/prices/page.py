"""The prices of a model in the admin: their history on the model's page, and a form with all units."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminIntegerFieldWidget, UnfoldAdminTextInputWidget

from config.base.approvals import ApprovalRequired, request_approval
from config.base.errors import SeoGenError
from config.site.admin_base import StaffAdmin, action, form_page
from config.site.conflicts import SeenForm
from llm.models import LLMModel, LLMPrice
from llm.prices.by_hand import prices_set
from llm.prices.history import MAX_PLACES, MAX_PRICE, price_in_force, prices_in_force, today
from llm.prices.unit_names import NAMES, THRESHOLD, unit_name
from llm.types import LONG, ModelPrices

MAX_NOTE_CHARS = 500


class PricesForm(SeenForm):
    """A field for each unit, filled with its current price, and fields for the threshold, the first day and a note."""

    valid_from = forms.DateField(
        label=gettext_lazy("Valid from"),
        widget=UnfoldAdminTextInputWidget(attrs={"type": "date"}),
        input_formats=["%Y-%m-%d"],
        help_text=gettext_lazy("The first day on which these prices apply, in UTC. It may be in the future."),
    )
    note = forms.CharField(
        label=gettext_lazy("Note"),
        required=False,
        max_length=MAX_NOTE_CHARS,
        widget=UnfoldAdminTextInputWidget,
        help_text=gettext_lazy("Why the prices change, for example a link to the provider's announcement."),
    )

    def __init__(self, *args: Any, held: ModelPrices, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial = {"valid_from": today().isoformat(), "long_context_over": held.long_context_over, **self.initial}
        for unit in NAMES:
            self._add(unit, held)
        self.fields["long_context_over"] = forms.IntegerField(
            label=gettext_lazy("Long context above (tokens)"),
            required=False,
            min_value=1,
            widget=UnfoldAdminIntegerFieldWidget,
            help_text=gettext_lazy(
                "A call with more input tokens than this is billed entirely at the prices below. Leave empty if there"
                " is no such threshold."
            ),
        )
        for unit in NAMES:
            self._add(LONG + unit, held)
        self.held = held
        stored = held.as_document()
        self.add_seen(
            {**{unit: stored.get(unit) for unit in _units_shown()}, "long_context_over": held.long_context_over}
        )

    def prices(self) -> ModelPrices:
        given = {unit: self.cleaned_data[unit] for unit in _units_shown()}
        known = {unit: price for unit, price in given.items() if price is not None}
        return ModelPrices(known, self.cleaned_data["long_context_over"])

    def _add(self, unit: str, held: ModelPrices) -> None:
        self.initial[unit] = ModelPrices(held.units).as_document().get(unit)
        self.fields[unit] = forms.DecimalField(
            label=unit_name(unit).capitalize(),
            required=False,
            min_value=0,
            max_digits=MAX_PLACES + len(str(MAX_PRICE)) - 1,
            decimal_places=MAX_PLACES,
            widget=UnfoldAdminDecimalFieldWidget,
        )


class PricesOnPage(StaffAdmin):
    """The part of a model's page that is about prices."""

    actions_detail = ("set_prices",)

    def has_set_prices_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm("llm.set_prices")

    @action(description=gettext_lazy("Set prices"), permissions=["set_prices"])
    def set_prices(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if not self.has_set_prices_permission(request):
            raise PermissionDenied
        model = self.get_object(request, object_id)
        if not isinstance(model, LLMModel):
            raise Http404
        form = PricesForm(request.POST or None, held=prices_in_force(model.pk))
        if request.method == "POST" and form.is_valid():
            try:
                if _set(model, form):
                    messages.success(request, _("The prices of %(model)s were saved.") % {"model": model})
                    return HttpResponseRedirect(reverse("admin:llm_llmmodel_change", args=[model.pk]))
            except ApprovalRequired as wanted:
                return _ask_second_person(request, form, wanted)
        return form_page(
            self,
            request,
            form,
            title=_("Prices of %(model)s") % {"model": model},
            submit=_("Save"),
            explanation=_(
                "US dollars per 1,000 tokens. An empty price means unknown, not 0: the unit's tokens are counted, but"
                " not their cost. If reasoning has no price, it is billed as output. Past steps keep the prices they"
                " ran at."
            ),
            back_url=reverse("admin:llm_llmmodel_change", args=[model.pk]),
            row=model,
        )

    @admin.display(description=gettext_lazy("history"))
    def price_history(self, model: LLMModel) -> SafeString | None:
        """Return a table of all prices, the latest first; None if there are no prices."""
        rows = list(model.prices.order_by("-valid_from", "-id")) if model.pk else []
        held = price_in_force(model.pk) if rows else None
        shown = [_shown(row, held) for row in rows]
        return render_to_string("admin/price_history.html", {"rows": shown}) if rows else None


def _units_shown() -> tuple[str, ...]:
    return (*NAMES, *(LONG + unit for unit in NAMES))


def _ask_second_person(request: HttpRequest, form: PricesForm, wanted: ApprovalRequired) -> HttpResponse:
    reason = form.cleaned_data["note"] or _("New prices")
    approval_id = request_approval(wanted, reason, request.user)
    messages.info(request, _("A second person has to approve this. Nothing has been done yet."))
    return HttpResponseRedirect(reverse("admin:tenants_approval_change", args=[approval_id]))


def _set(model: LLMModel, form: PricesForm) -> bool:
    try:
        given = form.cleaned_data
        prices_set(
            model=model,
            prices=form.prices(),
            valid_from=given["valid_from"],
            note=given["note"],
            expected=form.held,
        )
    except ApprovalRequired:
        raise
    except SeoGenError as error:
        form.add_error(None, str(error))
        return False
    return True


def _shown(row: LLMPrice, held: LLMPrice | None) -> dict[str, object]:
    return {
        "row": row,
        "state": _("in effect") if row == held else _("not yet in effect") if row.valid_from > today() else "",
        "units": list(_units(row.prices)),
    }


def _units(prices: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for unit in _units_shown():
        if unit in prices:
            yield unit_name(unit), str(prices[unit])
    if THRESHOLD in prices:
        yield unit_name(THRESHOLD), f"{prices[THRESHOLD]:,}"
