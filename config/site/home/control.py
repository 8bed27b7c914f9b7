"""The first page of the control site: everything that needs attention. Reads no tenant's database."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _

from config.site.home.attention import (
    backups_section,
    fleet_totals,
    models_section,
    operations_section,
    queue_facts,
    run_sections,
    schema_section,
)
from config.site.home.sections import Section
from config.site.home.spending import budget_of, budgets_section, spending_of
from tenants.access.visible import tenants_visible


def control_home(request: HttpRequest) -> dict[str, Any]:
    """Return the context of the page: the parts that the person may see, about tenants that they may see."""
    may, visible = request.user.has_perm, tenants_visible(request.user)
    home: dict[str, Any] = {"title": _("Overview")}
    sections: list[Section] = []
    totals = fleet_totals(visible)
    if may("runs.view_run"):
        home["queue"] = queue_facts(visible)
        sections += run_sections(visible)
    if may("tenants.view_tenant"):
        sees_batches, sees_requests = may("tenants.view_migrationbatch"), may("tenants.view_operationrequest")
        sections.append(operations_section(visible, sees_batches=sees_batches, sees_requests=sees_requests))
    if may("runs.view_runcost"):
        home["spending"] = spending_of(visible, budget_of(totals))
        sections.append(budgets_section(visible))
    if may("tenants.view_backup"):
        sections.append(backups_section(visible))
    if may("tenants.view_tenantschema"):
        sections.append(schema_section(totals))
    if may("llm.view_llmmodel"):
        sections.append(models_section())
    # Sections that need action come first.
    home["sections"] = sorted(sections, key=lambda section: not section.rows)
    return home
