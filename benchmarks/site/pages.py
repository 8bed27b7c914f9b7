"""The time that the admin's pages take with 1,000 tenants and 200,000 runs, compared with plain Django's lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from benchmarks.children import child
from benchmarks.environment import Environment
from benchmarks.measure import interleaved, ratios, seconds_of
from benchmarks.site.fill import RUNS, TENANTS, fill
from benchmarks.tables import Row, Table

ROUNDS = 15
USERNAME = "pages"
# One that the settings allow.
HOST = {"host": "localhost"}
AT_MOST = 1.5
# The lists of either site. Plain Django's have the same paths below its only site.
CONTROL_LISTS = ("tenants/tenant/", "audit_control/controlauditlog/")
TENANT_LISTS = ("runs/run/", "runs/step/", "runs/artifact/", "runs/runcost/", "audit/auditlog/")
# Pages that plain Django does not have, in units of its list of tenants.
PLAIN_TENANTS = "plain /admin/tenants/tenant/"
OTHER_PAGES = ("/admin/", "/t/{tenant}/admin/")


def pages(environment: Environment) -> list[Table]:
    """Compare each list with plain Django's, and the overviews with its list of tenants."""
    from django.contrib.auth.models import User
    from django.test import Client

    from tenants.lifecycle.create import tenant_create

    tenant = tenant_create(name="Pages")
    fill(environment, tenant)
    client = Client(headers=HOST)
    client.force_login(User.objects.create_user(USERNAME, is_staff=True, is_superuser=True))
    site = f"/t/{tenant.id}/admin/"
    compared = {f"/admin/{page}": f"/admin/{page}" for page in CONTROL_LISTS}
    compared |= {f"{site}{page}": f"/admin/{page}" for page in TENANT_LISTS}
    others = [page.format(tenant=tenant.id) for page in OTHER_PAGES]

    def opened(page: str) -> None:
        status = client.get(page).status_code
        if status != 200:
            raise RuntimeError(f"{page} answered {status}")

    variables = {"DJANGO_SETTINGS_MODULE": "benchmarks.site.plain.settings", "PLAIN_TENANT_URL": tenant.database_url}
    log = environment.log("plain_admin")
    with child(["-m", "benchmarks.site.plain", USERNAME], log=log, environment=variables) as plain:
        plain.answer()

        def plainly(page: str) -> float:
            return float(plain.answer(page))

        timed: dict[str, Callable[[], float]] = {}
        for page, rival in compared.items():
            timed[page] = partial(seconds_of, partial(opened, page))
            timed[f"plain {rival}"] = partial(plainly, rival)
        for page in others:
            timed[page] = partial(seconds_of, partial(opened, page))
        seconds = interleaved(timed, rounds=ROUNDS, warm_up=2)
    return [
        Table(f"Pages with {TENANTS:,} tenants and {RUNS:,} runs", list(_rows(seconds, compared, others, tenant.id)))
    ]


def _rows(
    seconds: Mapping[str, Sequence[float]], compared: Mapping[str, str], others: Sequence[str], tenant_id: str
) -> Iterator[Row]:
    def named(page: str) -> str:
        return page.replace(tenant_id, "TENANT")

    for page, rival in compared.items():
        yield Row(f"{named(page)} ÷ plain Django", ratios(seconds[page], seconds[f"plain {rival}"]), AT_MOST)
    for page in others:
        yield Row(f"{named(page)} ÷ plain list of tenants", ratios(seconds[page], seconds[PLAIN_TENANTS]))
    for page in (*compared, *others):
        yield Row(f"{named(page)}, milliseconds", [one * 1000 for one in seconds[page]])
