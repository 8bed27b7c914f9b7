"""Every message has its Japanese, compiled. Read from the sources themselves, so that GNU gettext is not needed."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import polib
import pytest
from django.utils import translation
from django.utils.translation.template import templatize

from config.cli import OUR_APPS
from config.stack.paths import CHECKOUT

pytestmark = pytest.mark.unit

FOLDER = CHECKOUT / "locale" / "ja" / "LC_MESSAGES"
HINT = "run `make messages`"
TRANSLATORS = {"_", "gettext", "gettext_lazy", "gettext_noop"}
# Those that take a plural or a context: not used so far, and not looked for below.
OTHER_TRANSLATORS = {"ngettext", "ngettext_lazy", "pgettext", "pgettext_lazy", "npgettext", "npgettext_lazy"}
PLACEHOLDER = re.compile(r"%\(\w+\)[#0\- +]?[\d.]*[a-z]|%%")
IN_TEMPLATE = re.compile(r"""(?:gettext|_)\(u?((?:"(?:[^"\\]|\\.)*")|(?:'(?:[^'\\]|\\.)*'))\)""")


def python_files() -> list[Path]:
    return [
        path for app in OUR_APPS for path in sorted((CHECKOUT / app).rglob("*.py")) if "migrations" not in path.parts
    ]


def template_files() -> list[Path]:
    return sorted(path for folder in ("templates", *OUR_APPS) for path in (CHECKOUT / folder).rglob("*.html"))


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Yield each call of a translating function, with the function's name."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in TRANSLATORS | OTHER_TRANSLATORS:
                yield name, node


def in_python(path: Path) -> Iterator[str]:
    for _name, call in calls(path):
        match call.args:
            case [ast.Constant(value=str(text))]:
                yield text


def in_template(path: Path) -> Iterator[str]:
    return (ast.literal_eval(quoted) for quoted in IN_TEMPLATE.findall(templatize(path.read_text())))


def messages() -> set[str]:
    found = {text for path in python_files() for text in in_python(path)}
    return found | {text for path in template_files() for text in in_template(path)}


@pytest.fixture(scope="module")
def japanese() -> polib.POFile:
    return polib.pofile(str(FOLDER / "django.po"))


def test_messages_are_found() -> None:
    assert {"There is no tenant %(id)s.", "Newest tenants", "To the control site"} <= messages()


def test_every_message_is_translated(japanese: polib.POFile) -> None:
    translated = {entry.msgid for entry in japanese if entry.translated()}
    assert sorted(messages() - translated) == [], HINT


def test_nothing_is_translated_that_is_never_said(japanese: polib.POFile) -> None:
    assert sorted({entry.msgid for entry in japanese} - messages()) == [], HINT


def test_nothing_is_fuzzy_or_obsolete(japanese: polib.POFile) -> None:
    assert [entry.msgid for entry in (*japanese.fuzzy_entries(), *japanese.obsolete_entries())] == [], HINT


def test_placeholders_are_the_same(japanese: polib.POFile) -> None:
    differing = [
        entry.msgid
        for entry in japanese
        if sorted(PLACEHOLDER.findall(entry.msgid)) != sorted(PLACEHOLDER.findall(entry.msgstr))
    ]
    assert differing == []


def test_outer_blanks_are_no_accident(japanese: polib.POFile) -> None:
    assert [entry.msgid for entry in japanese if entry.msgstr != entry.msgstr.strip()] == []


def test_compiled_translation_is_in_step(japanese: polib.POFile) -> None:
    compiled = {entry.msgid: entry.msgstr for entry in polib.mofile(str(FOLDER / "django.mo"))}
    assert compiled == {entry.msgid: entry.msgstr for entry in japanese.translated_entries()}, HINT


def test_django_uses_it() -> None:
    with translation.override("ja"):
        assert translation.gettext("There is no tenant %(id)s.") % {"id": "a"} == "テナント a はありません。"


def test_messages_are_literals() -> None:
    """A message that is put together before it is translated is never found: `_(f"…")`, `_("…" % …)`."""
    found = [
        (f"{path.relative_to(CHECKOUT)}:{call.lineno}", name, call)
        for path in python_files()
        for name, call in calls(path)
    ]
    assert [where for where, name, _call in found if name in OTHER_TRANSLATORS] == [], "teach this test about them"
    assert [where for where, _name, call in found if not isinstance(call.args[0], ast.Constant | ast.Name)] == []
