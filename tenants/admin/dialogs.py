"""Forms for creating and suspending tenants, and for setting their limits and budgets."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.forms import BaseDialogForm
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from config.site.conflicts import SeenForm
from tenants.admin.request_forms import checked_reason
from tenants.lifecycle.budget import BUDGETS, MAX_BUDGET, SMALLEST
from tenants.lifecycle.limit import MAX_STEPS
from tenants.models import DatabaseServer, Tenant
from tenants.naming import ID_MAX_LENGTH, NAME_MAX_LENGTH
from tenants.requests.request import REASON_MAX_LENGTH


class TenantCreateForm(forms.Form):
    name = forms.CharField(label=gettext_lazy("Name"), max_length=NAME_MAX_LENGTH, widget=UnfoldAdminTextInputWidget)
    tenant_id = forms.CharField(
        label=gettext_lazy("ID"),
        max_length=ID_MAX_LENGTH,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text=gettext_lazy(
            "Used in URLs and paths; cannot be changed or reused. Use only a-z, 0-9 and -, starting with a letter or"
            " digit. If empty, the id is derived from the name. If that is impossible, as for a Japanese name, the"
            " tenant gets a numbered id, such as tenant-12."
        ),
    )
    server = forms.ModelChoiceField(
        label=gettext_lazy("Database server"),
        queryset=DatabaseServer.objects.filter(is_active=True),
        required=False,
        empty_label=gettext_lazy("Default server"),
        widget=UnfoldAdminSelectWidget,
    )


def _budget_field(label: Any) -> forms.DecimalField:
    return forms.DecimalField(
        label=label,
        required=False,
        min_value=SMALLEST,
        max_value=MAX_BUDGET,
        decimal_places=6,
        error_messages={
            "min_value": gettext_lazy("A budget must be above 0. Leave the field empty for no budget."),
        },
        widget=UnfoldAdminDecimalFieldWidget,
    )


class TenantSuspendForm(BaseDialogForm):  # type: ignore[misc]
    """The dialog names the tenant and asks for a reason."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        required=False,
        max_length=REASON_MAX_LENGTH,
        widget=UnfoldAdminTextInputWidget,
        help_text=gettext_lazy("Kept in the audit log."),
    )

    def render_before_template(self) -> str:
        tenant = Tenant.objects.filter(pk=self.object_id).first()
        named = {"name": tenant.name, "id": tenant.id} if tenant else {"name": "", "id": self.object_id}
        return format_html('<p class="font-semibold mb-4">{}</p>', _("%(name)s (tenant %(id)s)") % named)

    def clean_reason(self) -> str:
        return checked_reason(self.cleaned_data["reason"])


class TenantLimitForm(SeenForm, BaseDialogForm):  # type: ignore[misc]
    """The dialog for the limit; an empty field means the default."""

    steps = forms.IntegerField(
        label=gettext_lazy("Steps at a time"),
        required=False,
        min_value=1,
        max_value=MAX_STEPS,
        error_messages={
            "min_value": gettext_lazy("A limit must be at least 1. Leave the field empty for the default."),
        },
        widget=UnfoldAdminIntegerFieldWidget,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        tenant = Tenant.objects.filter(pk=self.object_id).first()
        self.fields["steps"].initial = tenant.max_concurrent_steps if tenant else None
        self.fields["steps"].help_text = _("For all workers together. If empty, the default (%(n)d) applies.") % {
            "n": settings.RUN_TENANT_CONCURRENCY
        }
        self.add_seen({"steps": self.fields["steps"].initial})


class TenantBudgetForm(SeenForm, BaseDialogForm):  # type: ignore[misc]
    """The dialog for the budgets; an empty field means no budget."""

    monthly_budget_usd = _budget_field(gettext_lazy("Monthly budget (USD)"))
    run_budget_usd = _budget_field(gettext_lazy("Budget per run (USD)"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        tenant = Tenant.objects.filter(pk=self.object_id).first()
        for name in BUDGETS:
            amount = getattr(tenant, name, None)
            self.fields[name].initial = None if amount is None else amount.normalize()
        self.fields["monthly_budget_usd"].help_text = _("Months are counted in UTC. Leave empty for no budget.")
        self.fields["run_budget_usd"].help_text = _(
            "For runs whose configuration has no budget. Leave empty for no budget."
        )
        self.add_seen({name: getattr(tenant, name, None) for name in BUDGETS})
