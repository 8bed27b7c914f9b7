"""Messages, pages and translations use the words of docs/glossary.md, as far as a list of words can tell."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import polib
import pytest

from config.base.commands import OUR_APPS
from config.stack.paths import CHECKOUT

pytestmark = pytest.mark.unit

# What not to write, and what to write instead.
FORBIDDEN = {
    r"\bnobody\b": "no one",
    r"\bwhoever\b": "anyone who, the person who",
    r"\bat work\b": "running, in progress",
    r"\bcuts? off\b": "interrupted; for a file: truncated",
    r"\b(?:go|goes|going|gone|went) on\b": "continue",
    r"\b(?:is|are|was|were|be|been) told\b(?! to )|\btells? of\b|\btold of\b": "is reported, is recorded",
    r"\blooked at\b": "checked, inspected",
    r"\bbesides\b": "also, in addition",
    r"(?<!there )(?<!there's )\b(?:is|are|was|were) none\b": "is not a …, there is no …",
    r"\bof (?:ours|theirs)\b": "our …, the product's …",
    r"\bmend(?:s|ed|ing)?\b": "fix, correct",
    r"\bclusters?\b": "server",
}
# What lists the words themselves, and what is not written by hand.
LEFT_OUT = {"glossary.md", "migrations"}
# PostgreSQL's own terms.
POSTGRESQLS = re.compile(r"\b(?:database|PostgreSQL) clusters?\b|\bcluster identifiers?\b", re.IGNORECASE)
# The pages and the code whose words are checked.
CHECKED = [
    "*.md",
    "docs/**/*.md",
    *(f"{app}/**/*.py" for app in OUR_APPS),
]

NAVIGATION = CHECKOUT / "config" / "site" / "navigation.py"
IN_THE_MENU = re.compile(
    r"\badmin(?: \([^)]*\))?(?: (?:shows|lists|adds|does)[\w ]*)?,? under ([A-Z]\w*(?: [a-z]\w*)*)"
)
TRANSLATORS = {"_", "gettext", "gettext_lazy", "gettext_noop", "ngettext"}


def test_checked_pages_and_messages_use_the_glossarys_words() -> None:
    found = [(_name(path), *use) for path in _checked() for text in _texts(path) for use in _forbidden(text)]
    assert found == []


def test_everything_checked_exists() -> None:
    assert [pattern for pattern in CHECKED if not list(CHECKOUT.glob(pattern))] == []


def test_forbidden_words_are_found_in_prose_alone() -> None:
    page = "It goes on. `nobody` [cluster backup](x.md)\n```\nmend\n```\n**Nobody** is at work\non clusters."
    assert [word for word, _instead in _forbidden(_prose(page))] == ["Nobody", "at work", "goes on", "clusters"]
    assert list(_forbidden("If there is none, the database cluster is named.")) == []


def test_menu_entries_are_named_as_in_the_menu() -> None:
    pages = {_name(page): _unwrapped(page.read_text()) for page in (CHECKOUT / "docs").rglob("*.md")}
    hints = {_name(path): "\n".join(_messages(path)) for app in OUR_APPS for path in (CHECKOUT / app).rglob("*.py")}
    named = {(place, entry) for place, text in {**pages, **hints}.items() for entry in IN_THE_MENU.findall(text)}
    assert {"Pipeline", "Providers", "Database servers"} <= {entry for _place, entry in named}
    assert sorted((place, entry) for place, entry in named if entry not in _menu()) == []


def test_japanese_terms_of_the_glossary_are_those_of_the_translation() -> None:
    file = polib.pofile(str(CHECKOUT / "locale" / "ja" / "LC_MESSAGES" / "django.po"))
    said = "\n".join(text for entry in file for text in (entry.msgstr, *entry.msgstr_plural.values()))
    terms = _japanese_terms()
    assert {"テナント", "工程", "識別子", "台帳"} <= set(terms)
    assert [term for term in terms if not term.endswith("*") and term not in said] == []


def _checked() -> list[Path]:
    return sorted(path for pattern in CHECKED for path in CHECKOUT.glob(pattern) if not LEFT_OUT & {*path.parts})


def _name(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def _texts(path: Path) -> Iterator[str]:
    """Yield the texts in the file that people read: a page's prose, or a module's messages."""
    return iter([_prose(path.read_text())]) if path.suffix == ".md" else _messages(path)


def _prose(page: str) -> str:
    """Return the page's text on one line, without its title, code, links and their texts."""
    # The title of a command's page is its name.
    without_code = re.sub(r"\A# [^\n]*\n|```.*?```|`[^`]*`", "", page, flags=re.DOTALL)
    return _unwrapped(re.sub(r"\[[^\]]*\]\([^)]*\)", "", without_code))


def _unwrapped(page: str) -> str:
    return re.sub(r"[ \t]*\n[ \t]*", " ", page)


def _messages(path: Path) -> Iterator[str]:
    """Yield the texts that the module hands to gettext, without quoted commands."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Name(id=name), args=arguments) if name in TRANSLATORS:
                for argument in arguments:
                    match argument:
                        case ast.Constant(value=str(text)):
                            yield re.sub(r"`[^`]*`", "", text)


def _forbidden(text: str) -> Iterator[tuple[str, str]]:
    """Yield each forbidden word as it stands in the text, and what to write instead."""
    remaining = POSTGRESQLS.sub("", text)
    for pattern, instead in FORBIDDEN.items():
        for found in re.finditer(pattern, remaining, re.IGNORECASE):
            yield found.group(), instead


def _menu() -> set[str]:
    """Return the entries and groups of both sites' menus."""
    return set(_messages(NAVIGATION))


def _japanese_terms() -> list[str]:
    rows = [line.split("|") for line in (CHECKOUT / "docs" / "glossary.md").read_text().splitlines()]
    cells = [row[4].strip() for row in rows if len(row) == len(("", "term", "meaning", "not", "Japanese", ""))]
    return [term for cell in cells if cell != "Japanese" and not cell.startswith("--") for term in cell.split("、")]
