"""Every page of both sites that the browser's checks and `make screenshots` visit. New pages are added here.

The lists of `tests/config/site/test_pages.py` are part of it: they have a page of every registered model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.config.site.test_pages import CONTROL_PAGES, TENANT_PAGES

# What has no page of its own in those lists: dialogs, errors, pages of one row.
MORE_CONTROL_PAGES = [
    "/admin/tenants/tenant/{tenant}/change/",
    "/admin/auth/user/{user}/change/",
    "/admin/auth/user/{user}/password/",
    "/admin/auth/user/{user}/delete/",
    "/admin/audit_control/controlauditlog/1/change/",
    "/admin/no-such-page/",
    "/t/no-such-tenant/admin/",
]
MORE_TENANT_PAGES = [
    "runs/run/?q=nothing-has-this-name",
    "no-such-page/",
]


@dataclass(frozen=True)
class Known:
    """The rows that the pages of single rows show."""

    tenant: str
    user: str
    run: str
    step: str
    artifact: str


def control_pages(known: Known) -> Iterator[str]:
    for page in (*CONTROL_PAGES, *MORE_CONTROL_PAGES):
        yield page.format(**vars(known))


def tenant_pages(known: Known) -> Iterator[str]:
    for page in (*TENANT_PAGES, *MORE_TENANT_PAGES):
        yield f"/t/{known.tenant}/admin/{page.format(**vars(known))}"
