"""Every refusal has a code, and the manual lists the codes."""

import re
from collections import Counter
from functools import cache

from config.base.errors import SeoGenError
from config.command_line import error_reference
from config.command_line.error_reference import (
    HANDED_ON,
    ROOTS,
    ErrorClass,
    Site,
    code_of,
    error_classes,
    modules_read,
    page,
    rows,
    sites,
)
from config.stack.paths import CHECKOUT

# Codes used by more than one class or module, because they mean the same to scripts.
SHARED = {
    "backup_of_another_tenant",
    "backup_schema_differs",
    "options_conflict",
    "place_unavailable",
    "program_missing",
    "run_failed",
    "server_has_tablespaces",
    "tenant_id_erased",
    # The command, and the same copy when staff request it in the admin.
    "prompt_copy_rolled_back",
    "prompt_copy_unfinished",
    "tenants_not_changed",
    # A class's code that raise sites of another class give as well.
    "backup_not_recognized",
    "tenant_identity_mismatch",
}


@cache
def classes() -> dict[str, ErrorClass]:
    return error_classes(modules_read())


@cache
def raise_sites() -> list[Site]:
    return list(sites(modules_read(), classes()))


def test_every_place_that_refuses_has_a_code() -> None:
    assert len(raise_sites()) > 300
    assert [f"{site.where}: {site.error}" for site in raise_sites() if not site.code] == []


def test_every_class_that_is_raised_directly_has_a_code() -> None:
    """A class without a code of its own is a base class, or the test above requires a code wherever it is raised."""
    between = {base for one in classes().values() for base in one.bases} | {site.error for site in raise_sites()}
    assert [name for name in classes() if not code_of(name, classes()) and name not in between | ROOTS] == []


def test_codes_are_words_in_snake_case() -> None:
    assert [code for code in rows() if not re.fullmatch(r"[a-z]+(_[a-z]+)*", code)] == []


def test_no_two_classes_have_one_code() -> None:
    counts = Counter(one.code for one in classes().values() if one.code)
    assert [code for code, count in counts.items() if count > 1] == []


def test_a_code_means_one_thing() -> None:
    """A code may have several sentences within a module or class; only codes in `SHARED` are used in several."""
    given: dict[str, set[str]] = {}
    for site in raise_sites():
        own = code_of(site.error, classes())
        if site.code not in (own, HANDED_ON):
            given.setdefault(site.code, set()).add(site.where.partition(":")[0])
    owned = {one.code for one in classes().values() if one.code}
    several = {code for code, modules in given.items() if len(modules) > 1 or code in owned}
    assert several == SHARED


def test_no_code_is_made_at_run_time() -> None:
    """A computed code could depend on the language; only these classes may be raised with another error's code."""
    handed_on = [site for site in raise_sites() if site.code == HANDED_ON]
    assert {site.error for site in handed_on} <= {"BackupFailed", "ImportRefused", "Refusal", "RestoreRefused"}


def test_the_page_is_what_the_code_says() -> None:
    assert (CHECKOUT / "docs/manual/errors.md").read_text() == page(), "run `make errors`"


def test_every_row_says_something() -> None:
    assert [code for code, row in error_reference.rows().items() if not row.sentences] == []


def test_an_instance_keeps_the_code_that_it_was_given() -> None:
    assert SeoGenError("x", code="some_code").code == "some_code"
    assert SeoGenError("x").code == ""
