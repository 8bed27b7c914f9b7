"""The page that shows how the prices differ from the public price list, and imports nothing but what it showed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from config.base.errors import SeoGenError
from config.site.admin_base import StaffAdmin, action
from llm.errors import PricesUnavailable
from llm.prices.history import today
from llm.prices.types import PriceChange, PricesReport
from llm.prices.unit_names import THRESHOLD, unit_name

ONLINE, INSTALLED = "online", "installed"
# The names of the form's fields.
SOURCE, OVERWRITE, COMPARISON = "source", "overwrite", "comparison"


class PricesImport(StaffAdmin):
    """The part of the list of models that imports prices."""

    actions_list = ("import_prices",)

    @action(description=gettext_lazy("Import prices"), permissions=["set_prices"])
    def import_prices(self, request: HttpRequest) -> HttpResponse:
        # The price list's package is slow to import, and only this page of the admin needs it.
        from llm.prices.refresh import prices_compare

        if not request.user.has_perm("llm.set_prices"):
            raise PermissionDenied
        page = reverse("admin:llm_llmmodel_import_prices")
        given = request.POST if request.method == "POST" else request.GET
        source = ONLINE if given.get(SOURCE) == ONLINE else INSTALLED
        try:
            if request.method == "POST":
                _import(request, online=source == ONLINE)
                return HttpResponseRedirect(reverse("admin:llm_llmmodel_changelist"))
            report = prices_compare(online=source == ONLINE)
        except SeoGenError as error:
            if isinstance(error, PricesUnavailable):
                messages.error(request, str(error))
                # The list that came with the product needs no network.
                return HttpResponseRedirect(page)
            messages.error(request, str(error))
            return HttpResponseRedirect(f"{page}?{SOURCE}={source}")
        context = {**self.admin_site.each_context(request), "opts": self.opts, "media": self.media}
        return TemplateResponse(request, "admin/price_import.html", {**context, **_shown(report, source, page)})


def _import(request: HttpRequest, *, online: bool) -> None:
    """Import what the page showed, and add a message; prices set by hand are kept unless the person chose otherwise."""
    from llm.prices.refresh import prices_apply

    report = prices_apply(
        online=online, overwrite=request.POST.getlist(OVERWRITE), expected=request.POST.get(COMPARISON, "")
    )
    imported = {change.name for change in report.changes if change.outcome == "applied"}
    if not imported:
        _say_no_price(request, len(report.deprecation))
        return
    number = len(imported)
    messages.success(
        request,
        ngettext("Prices of %(n)d model were imported.", "Prices of %(n)d models were imported.", number)
        % {"n": number},
    )


def _say_no_price(request: HttpRequest, marked: int) -> None:
    """Say that no price was imported; the mark “being retired” of `marked` models has changed."""
    if not marked:
        messages.info(request, _("Nothing was imported: all these prices were set by hand and are kept."))
        return
    text = ngettext(
        "No price was imported, but “being retired” was changed for %(n)d model.",
        "No price was imported, but “being retired” was changed for %(n)d models.",
        marked,
    )
    messages.success(request, text % {"n": marked})


def _shown(report: PricesReport, source: str, page: str) -> dict[str, Any]:
    by_model = groupby(report.changes, key=lambda change: change.name)
    models = [_model(name, list(changes)) for name, changes in by_model]
    sources = [
        (INSTALLED, _("The list that came with the product")),
        (ONLINE, _("Today's list, fetched from the internet")),
    ]
    return {
        "title": _("Import prices"),
        "models": models,
        "report": report,
        "retiring": [name for name in report.deprecation if name in report.deprecated],
        "not_retiring": [name for name in report.deprecation if name not in report.deprecated],
        "has_changes": bool(models or report.deprecation),
        "source": source,
        "sources": [(f"{page}?{SOURCE}={name}", text, name == source) for name, text in sources],
        "fields": {"source": SOURCE, "overwrite": OVERWRITE, "comparison": COMPARISON},
    }


def _model(name: str, changes: Sequence[PriceChange]) -> dict[str, Any]:
    """Return what the page shows of a model: for each day, the units whose prices differ from that day on."""
    days: list[dict[str, Any]] = [
        {
            "day": change.valid_from.isoformat() if change.valid_from > today() else _("now"),
            "by_hand": change.by_hand,
            "units": list(_units(change)),
        }
        for change in changes
    ]
    return {
        "name": name,
        "days": days,
        "lines": sum(len(day["units"]) for day in days),
        "by_hand": any(change.by_hand for change in changes),
        "is_new": not any(change.old.as_document() for change in changes),
    }


def _units(change: PriceChange) -> Iterator[tuple[str, str, str]]:
    old, new = change.old.as_document(), change.new.as_document()
    for unit in dict.fromkeys([*new, *old]):
        if old.get(unit) != new.get(unit):
            if unit == THRESHOLD:
                yield unit_name(unit), _tokens(old.get(unit)), _tokens(new.get(unit))
            else:
                yield unit_name(unit), str(old.get(unit, "-")), str(new.get(unit, "-"))


def _tokens(number: Any) -> str:
    return "-" if number is None else number_format(number, use_l10n=True, force_grouping=True)
