"""No CSV file from a page or a command holds a formula, even if names in it begin like a formula."""

from __future__ import annotations

import ast
import csv
import io
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class
from django.test import Client

from config.stack.paths import CHECKOUT
from runs.presentation.costs import BYTE_ORDER_MARK
from runs.summaries.models import DailyCost
from tenants.models import Tenant
from tests.config.site.access.rows import World, address_of, views, world
from tests.runs.costs.test_show import show
from tests.support.staff import make_user

__all__ = ["world"]

# What begins a formula in Excel, LibreOffice or Google Sheets; the wide ones do in Japanese.
STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", " =", "\u3000＝")
# The pages and the commands whose answers are CSV, with the ways to group their rows. All have the test below.
PAGES = {
    ("config.urls", "costs"): ("day", "month", "step", "model", "tenant"),
    ("config.urls_tenant", "costs"): ("day", "month", "step", "model"),
}
COMMANDS = {"cost_show": ("day", "month", "step", "model", "tenant")}
# The only module that writes CSV, and the modules that use it.
WRITER = "runs/presentation/costs.py"
CALLERS = {"runs/admin/cost_pages.py", "runs/management/commands/cost_show.py"}
PRODUCT = ("audit", "config", "llm", "prompts", "runs", "tenants")
FIRST = date(2020, 1, 1)


@pytest.fixture
def staff() -> Iterator[Client]:
    user = make_user(is_superuser=True)
    client = Client()
    client.force_login(user)
    yield client
    user.delete()


@pytest.fixture
def costs(world: World) -> Iterator[Tenant]:
    """Create daily costs in which every name begins like a formula; yield their tenant."""
    tenant = world.ours.tenant
    amounts = {"calls": 1, "unknown_calls": 0, "unpriced_calls": 0, "cost_usd": Decimal(1)}
    for start in STARTS:
        text = f"{start}1+1,\"'"
        usage = {f"{start}unit": 1}
        DailyCost.objects.create(
            tenant=tenant, day=FIRST, step=text, provider=text, model=text, token_usage=usage, **amounts
        )
    yield tenant
    DailyCost.objects.filter(tenant=tenant).delete()


# -- the list --------------------------------------------------------------------------------------------------------


def test_every_page_that_answers_with_csv_is_listed(world: World, staff: Client) -> None:
    found = set()
    for urlconf, prefix, ids in (
        ("config.urls", "/", {**world.ours.control, **world.installation}),
        ("config.urls_tenant", f"/t/{world.ours.tenant.id}/", world.ours.own_site),
    ):
        for name, route in views(urlconf).items():
            address = address_of(name, route, ids, prefix)
            for query in () if address is None or name == "logout" else ("", "?format=csv&export=csv&csv=1"):
                response = staff.get(f"{address}{query}")
                name_of_file = response.get("Content-Disposition", "")
                if "csv" in response.get("Content-Type", "") or ".csv" in name_of_file or ".tsv" in name_of_file:
                    found.add((urlconf, name))
    assert found == set(PAGES)


def test_every_command_that_prints_csv_is_listed() -> None:
    ours = {name: app for name, app in get_commands().items() if str(app).split(".")[0] in PRODUCT}
    found = set()
    for name, app in ours.items():
        parser = load_command_class(str(app), name).create_parser("seo-gen", name)
        if any("csv" in option for action in parser._actions for option in (*action.option_strings, action.dest)):
            found.add(name)
    assert found == set(COMMANDS)


def test_one_module_writes_csv() -> None:
    files = [file for app in PRODUCT for file in (CHECKOUT / app).rglob("*.py") if "csv" in file.read_text()]
    names = {file.relative_to(CHECKOUT).as_posix(): set(_names(file)) for file in files}
    assert {name for name, used in names.items() if used & {"csv.writer", "csv.DictWriter"}} == {WRITER}
    assert {name for name, used in names.items() if "cost_csv" in used} == CALLERS


def _names(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{one.name}" if node.module == "csv" else one.name for one in node.names)


# -- their cells -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("urlconf", "by"), [(site, by) for (site, _name), groups in PAGES.items() for by in groups])
def test_no_cell_of_a_page_is_a_formula(costs: Tenant, staff: Client, urlconf: str, by: str) -> None:
    prefix = "" if urlconf == "config.urls" else f"/t/{costs.id}"
    query = {"by": by, "first": str(FIRST), "last": str(datetime.now(UTC).date()), "format": "csv"}
    response = staff.get(f"{prefix}/admin/costs/", query)
    assert response["Content-Type"].startswith("text/csv")
    _assert_inert(response.content.decode())


@pytest.mark.parametrize("by", COMMANDS["cost_show"])
def test_no_cell_of_a_command_is_a_formula(costs: Tenant, by: str) -> None:
    _assert_inert(show("--tenant-id", costs.id, "--by", by, "--from", str(FIRST), "--csv"))


def _assert_inert(text: str) -> None:
    head, *rows = csv.reader(io.StringIO(text.removeprefix(BYTE_ORDER_MARK), newline=""))
    assert rows
    assert sum("unit" in cell for cell in head) == len(STARTS)
    cells = [*head, *(cell for row in rows for cell in row if not _is_number(cell))]
    assert [cell for cell in cells if cell.strip().startswith(STARTS) or cell.startswith(("\t", "\r", "\n"))] == []


def _is_number(cell: str) -> bool:
    return cell.replace(".", "", 1).removeprefix("-").isdecimal()
