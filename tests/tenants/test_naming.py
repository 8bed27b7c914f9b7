import re
from uuid import UUID

import pytest

from tenants.errors import InvalidTenant
from tenants.naming import clean_name, database_name, id_from_name, numbered_ids, validate_id, work_name

pytestmark = pytest.mark.unit

IDENTITY = UUID("0123abcd-0000-4000-8000-000000000000")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("customer-a", "customer-a"),
        ("Customer A", "customer-a"),
        ("  ACME, Inc.  ", "acme-inc"),
        ("Ünïcode GmbH", "unicode-gmbh"),
        ("snake_case", "snake-case"),
        ("9 Lives", "9-lives"),
        ("x" * 60, "x" * 41),
        ("a" * 40 + " b", "a" * 40),
    ],
)
def test_an_id_is_derived_from_the_name(name: str, expected: str) -> None:
    assert id_from_name(clean_name(name)) == expected


@pytest.mark.parametrize("name", ["株式会社青葉", "顧客B", "Кофе 1", "---"])
def test_no_id_is_derived_from_a_name_that_would_lose_letters(name: str) -> None:
    assert id_from_name(name) is None


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ([], "tenant-1"),
        (["a", "tenant-1", "tenant-7", "tenant-07", "tenant-x", "tenant-9-9"], "tenant-8"),
        (["tenant-" + "9" * 30], "tenant-1"),
    ],
)
def test_numbers_go_on_above_every_one_that_was_used(known: list[str], expected: str) -> None:
    assert next(numbered_ids(known)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("株式会社\u3000テスト", "株式会社\u3000テスト"),
        ("Caf\u00e9\u00a0Ltd", "Café\u00a0Ltd"),
        ("Family 👨\u200d👩\u200d👧", "Family 👨\u200d👩\u200d👧"),
        ("\ufeff  ACME\u200b ", "ACME"),
    ],
)
def test_a_name_may_hold_any_space_and_joiners(name: str, expected: str) -> None:
    assert clean_name(name) == expected


@pytest.mark.parametrize(
    "tenant_id",
    [
        "",
        "-a",
        "A",
        "a" * 42,
        "a b",
        "../etc",
        "a/b",
        "a.b",
        "a;drop table tenants",
        "ａ",
        "顧客",
        "a\n",
        "a'b",
        'a"b',
        "a_b",
    ],
)
def test_an_id_that_is_no_slug_is_refused(tenant_id: str) -> None:
    with pytest.raises(InvalidTenant, match="is not a tenant id"):
        validate_id(tenant_id)


@pytest.mark.parametrize(
    "name",
    ["", "   ", "\u200b", "\u3000\u00a0", "\u3164", "x" * 201, "a\x00b", "a\nb", "\x1b[31m", "a\u202eb", "a\udcffb"],
)
def test_a_name_that_cannot_be_shown_is_refused(name: str) -> None:
    with pytest.raises(InvalidTenant):
        clean_name(name)


def test_a_database_name_says_nothing_and_is_never_the_same() -> None:
    names = {database_name("seo_gen") for _ in range(100)}
    assert len(names) == 100
    assert all(re.fullmatch(r"seo_gen_[0-9a-f]{16}", name) for name in names)


@pytest.mark.parametrize("prefix", ["", "p" * 13, "1a", "a-b", 'a"'])
def test_a_prefix_that_would_not_fit_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidTenant, match="TENANT_DATABASE_PREFIX"):
        database_name(prefix)


def test_our_sessions_are_called_alike_for_one_tenant_and_do_not_name_it() -> None:
    assert work_name("restore", IDENTITY) == f"restore {IDENTITY.hex[:12]}"
