"""The pages of both sites that the browser's checks and `make screenshots` visit by address. New pages are added here.

The lists of `tests/config/site/test_pages.py`, which have a page of every registered model, are part of them.
`tests.support.browser.rows` makes the rows whose ids are in the addresses; `tests.support.browser.visits` has the pages
that only a form or another login leads to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.config.site.test_pages import CONTROL_PAGES, TENANT_PAGES

# What has no page of its own in those lists: pages of one row in each of its states, forms, filters, refusals.
MORE_CONTROL_PAGES = [
    "/admin/costs/?by=tenant",
    "/admin/costs/?first=2020-01-01&last=2020-01-31",
    "/admin/costs/?by=model",
    "/admin/costs/?tenant={tenant}&by=step",
    "/admin/costs/?first=2026-13-40",
    "/admin/tenants/tenant/?q={tenant}",
    "/admin/tenants/tenant/?q=nothing-has-this-name",
    "/admin/tenants/tenant/{tenant}/change/",
    *(
        "/admin/tenants/tenant/{tenant}/" + form + "/"
        for form in ("back-up", "restore", "undo", "drill", "copy", "export", "erase", "history")
    ),
    "/admin/tenants/tenant/{gone}/change/",
    "/admin/tenants/tenantschema/migrate/",
    *(
        "/admin/tenants/operationrequest/{" + state + "_operation}/change/"
        for state in ("waiting", "running", "done", "failed", "refused", "unfinished", "preview", "copy")
    ),
    "/admin/tenants/operationrequest/?status__exact=failed&q={tenant}",
    *(
        "/admin/tenants/approval/{" + state + "_approval}/change/"
        for state in ("asked", "own", "approved", "rejected", "used")
    ),
    "/admin/tenants/approval/?status__exact=used",
    "/admin/tenants/backup/{backup}/change/",
    "/admin/tenants/backup/{failed_backup}/change/",
    "/admin/tenants/backup/{export}/change/",
    "/admin/tenants/backup/?q={tenant}",
    "/admin/tenants/restore/{restore}/change/",
    "/admin/tenants/basebackup/{base_backup}/change/",
    "/admin/tenants/migrationbatch/{batch}/change/",
    "/admin/tenants/databaseserver/main/delete/",
    "/admin/tenants/erasure/{erasure}/change/",
    "/admin/tenants/erasure/{erasure}/certificate/",
    "/admin/audit_control/controlauditlog/1/change/",
    "/admin/audit_control/controlauditlog/?q={tenant}&event=tenant.create",
    "/admin/audit_control/archivedauditlog/?tenant={gone}",
    "/admin/llm/llmmodel/{model}/change/",
    "/admin/llm/llmmodel/{model}/set_prices/",
    "/admin/llm/llmmodel/{model}/delete/",
    "/admin/llm/llmprovider/claude/change/",
    "/admin/llm/stepllmdefault/final/change/",
    "/admin/llm/stepllmdefault/final/delete/",
    "/admin/auth/user/{user}/change/",
    "/admin/auth/user/{colleague}/password/",
    "/admin/auth/user/{user}/delete/",
    "/admin/auth/user/{colleague}/change/",
    "/admin/sign-ins/{user}/",
    "/admin/sign-ins/{colleague}/",
    "/admin/sign-in/set-up/",
    "/admin/tenants/tenantgroup/{group}/change/",
    "/admin/tenants/tenantgroup/{group}/delete/",
    "/admin/tenants/temporaryaccess/{access}/change/",
    # Lists without a result.
    *(
        f"/admin/{model}/?q=nothing-has-this-name"
        for model in ("llm/llmmodel", "tenants/operationrequest", "tenants/approval", "auth/user")
    ),
    "/admin/llm/llmmodel/?provider__id__exact=claude&q=claude",
    "/admin/auth/user/?is_active__exact=1&q={tenant}",
    "/admin/no-such-page/",
    "/t/no-such-tenant/admin/",
]
MORE_TENANT_PAGES = [
    "runs/run/?q=nothing-has-this-name",
    "runs/run/?series={series}",
    "runs/run/reviews/",
    "runs/run/series/",
    *(
        "runs/run/{" + state + "_run}/change/"
        for state in ("waiting", "running", "failed", "paused", "broke", "review")
    ),
    "runs/run/{run}/texts/",
    "runs/run/{failed_run}/texts/",
    "runs/run/{waiting_run}/texts/",
    "runs/run/{run}/compare/",
    "runs/run/{run}/compare/?old={old_text}&new={new_text}",
    "runs/run/{failed_run}/compare/",
    "runs/run/add/?from={run}",
    "runs/step/{failed_step}/change/",
    "runs/step/?status__exact=failed",
    "costs/?by=model",
    "costs/?first=2020-01-01&last=2020-01-31&by=step",
    "prompts/prompt/{prompt}/change/",
    "prompts/prompt/{draft}/change/",
    "prompts/prompt/{draft}/compare/",
    "prompts/prompt/{draft}/try_out/",
    "prompts/prompt/add/?from={prompt}",
    "prompts/prompt/{draft}/copy_to_tenants/",
    "prompts/prompt/copy_all_to_tenants/",
    "prompts/prompt/copies/{preview_operation}/",
    "prompts/prompt/copies/{preview_operation}/?tenant={tenant}&step=outline",
    "prompts/prompt/copies/{preview_operation}/?tenant={tenant}&step=draft",
    "prompts/prompt/copies/{copy_operation}/",
    "runs/stepoverride/{override}/change/",
    "runs/stepoverride/{override}/delete/",
    "audit/auditlog/?q=nothing-has-this-name",
    *(f"{model}/?q=nothing-has-this-name" for model in ("runs/step", "runs/artifact", "prompts/prompt")),
    "runs/artifact/?file_type__exact=markdown&q=final",
    "prompts/prompt/?is_active__exact=1&q=outline",
    "audit/auditlog/?event=run.create&q=run",
    "no-such-page/",
]


@dataclass(frozen=True)
class Known:
    """The ids that complete the pages' addresses, by placeholder."""

    ids: Mapping[str, str]

    @property
    def site(self) -> str:
        return f"/t/{self.ids['tenant']}/admin/"


def control_pages(known: Known) -> Iterator[str]:
    for page in (*CONTROL_PAGES, *MORE_CONTROL_PAGES):
        yield page.format(**known.ids)


def tenant_pages(known: Known) -> Iterator[str]:
    for page in (*TENANT_PAGES, *MORE_TENANT_PAGES):
        yield known.site + page.format(**known.ids)
