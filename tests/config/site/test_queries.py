"""The control site's pages make few queries, none to a tenant's database. A tenant's pages query no other tenant's."""

from __future__ import annotations

from collections import Counter
from typing import Any

import psycopg
import pytest
from django.test import Client

from tests.config.site.test_pages import CONTROL_PAGES, TENANT_PAGES
from tests.support.staff import Filled

# So that a page takes a few milliseconds with any number of tenants and runs.
MAX_QUERIES = 12
# A tenant's page on the control site has a part for each kind of fact.
MAX_QUERIES_OF_A_TENANT = 15


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """A list that collects (database, statement) of each statement that this process executes."""
    seen: list[tuple[str, str]] = []
    execute = psycopg.Cursor.execute

    def record(cursor: Any, query: Any, *values: Any, **options: Any) -> Any:
        seen.append((cursor.connection.info.dbname, str(query)))
        return execute(cursor, query, *values, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", record)
    return seen


def test_pages_of_the_control_site_ask_little_and_no_tenants_database(
    browser: Client, filled: Filled, statements: list[tuple[str, str]]
) -> None:
    control = control_database()
    excess = {}
    for page in [*CONTROL_PAGES, f"/admin/tenants/tenant/{filled.tenant.id}/change/"]:
        statements.clear()
        assert browser.get(page, follow=True).status_code == 200, page
        asked = Counter(database for database, _statement in statements)
        allowed = MAX_QUERIES_OF_A_TENANT if filled.tenant.id in page else MAX_QUERIES
        if set(asked) - {control} or asked[control] > allowed:
            excess[page] = dict(asked)
    assert excess == {}


def test_pages_of_a_tenant_ask_no_other_tenants_database(
    browser: Client, filled: Filled, statements: list[tuple[str, str]]
) -> None:
    own = {control_database(), psycopg.conninfo.conninfo_to_dict(filled.tenant.database_url)["dbname"]}
    ids = {"run": filled.run.pk, "step": filled.step.pk, "artifact": filled.artifact.pk}
    excess = {}
    for page in TENANT_PAGES:
        statements.clear()
        assert browser.get(filled.site + page.format(**ids)).status_code == 200, page
        asked = Counter(database for database, _statement in statements)
        if set(asked) - own:
            excess[page] = dict(asked)
    assert excess == {}


def test_the_list_of_artifacts_reads_the_steps_of_its_own_runs_alone(
    browser: Client, filled: Filled, statements: list[tuple[str, str]]
) -> None:
    assert browser.get(f"{filled.site}runs/artifact/").status_code == 200
    about_steps = [statement for _database, statement in statements if '"steps"' in statement]
    assert about_steps
    assert [one for one in about_steps if '"run_id" IN (%s)' not in one and '"id" IN (%s)' not in one] == []


def control_database() -> str:
    from django.db import connections

    return str(connections["default"].settings_dict["NAME"])
