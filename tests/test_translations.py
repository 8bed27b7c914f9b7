"""Messages are literals, and each has a Japanese translation that fits it and is compiled.

The tests read the sources, so they do not need GNU gettext.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import polib
import pytest
from django.utils import translation
from django.utils.translation.template import templatize

from config.base.commands import OUR_APPS
from config.stack.paths import CHECKOUT

pytestmark = pytest.mark.unit

FOLDER = CHECKOUT / "locale" / "ja" / "LC_MESSAGES"
HINT = "run `make messages`"
TRANSLATORS = {"_", "gettext", "gettext_lazy", "gettext_noop"}
# Its messages are the singular and the plural.
PLURAL = "ngettext"
# Functions with a context or a lazy plural: they are not used so far, and the tests below do not look for them.
OTHER_TRANSLATORS = {"ngettext_lazy", "pgettext", "pgettext_lazy", "npgettext", "npgettext_lazy"}
# A number before a noun ("%(count)d files"), which agrees with it. ("%(name)s runs …" is a verb.)
NOUNS = (
    "anchors|attempts|backups|bytes|characters|connections|credentials|databases|days|digits|entries|files|keys|logs|messages"
    "|minutes|problems|rows|seconds|segments|servers|steps|tenants|times|tokens|transactions|versions"
)
COUNTED = re.compile(rf"%\(\w+\)(?:[ds] (?:[a-z]+ )?(?:{NOUNS})|d (?:[a-z]+ )?runs)\b")
COUNTED_ALWAYS_MANY = {
    "The reply from the provider %(provider)s for model %(model)s is far larger than its output limit of %(limit)d"
    " tokens allows.",
    "%(reason)s The step will be retried with a limit of %(limit)d tokens.",
    "The text is too long: enter at most %(limit)d characters.",
    "has more than %(limit)d elements",
    "The output of model %(model)s ended at the limit of %(limit)d tokens.",
    "Approval %(id)s needs a second person: the requester created or changed the account %(who)s, its roles or its"
    " second factor within the last %(days)d days.",
    # Limits of hundreds or more, and what exceeds them.
    "The rendered text is longer than %(limit)d characters.",
    "The comment is longer than %(limit)d characters.",
    "The template is longer than %(limit)d characters.",
    "The note is longer than %(limit)d characters.",
    "The list has %(count)d runs, but at most %(limit)d can be started at once.",
    "The text is longer than %(limit)d characters.",
    "is longer than %(limit)d characters",
    "a number has more than %(limit)d digits",
    "A message for %(task)s is %(size)d bytes long; the limit is %(limit)d.",
    "A tenant's name can have at most %(max)d characters; this one has %(count)d.",
    "Limits for a call to %(model)s: %(max_input_tokens)s tokens in, %(max_output_tokens)s out; cost: %(cost_limit)s.",
    "Limits for a call to %(provider)s/%(model)s: %(max_input_tokens)d tokens in, %(max_output_tokens)d out;"
    " cost: %(limit)s.",
    "The prompt leaves no room for an answer from model %(model)s of the provider %(provider)s: it has at least"
    " %(tokens)d tokens, and the context window is %(window)d.",
}
# The text and its plural, "" if it has none.
Message = tuple[str, str]
PLACEHOLDER = re.compile(r"%\(\w+\)[#0\- +]?[\d.]*[a-z]|%%")
IN_TEMPLATE = re.compile(r"""(?:gettext|_)\(u?((?:"(?:[^"\\]|\\.)*")|(?:'(?:[^'\\]|\\.)*'))\)""")

LITERAL = r"""u?((?:"(?:[^"\\]|\\.)*")|(?:'(?:[^'\\]|\\.)*'))"""
PLURAL_IN_TEMPLATE = re.compile(rf"ngettext\({LITERAL}, {LITERAL},")


def python_files() -> list[Path]:
    return [
        path for app in OUR_APPS for path in sorted((CHECKOUT / app).rglob("*.py")) if "migrations" not in path.parts
    ]


def template_files() -> list[Path]:
    return sorted(path for folder in ("templates", *OUR_APPS) for path in (CHECKOUT / folder).rglob("*.html"))


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Yield the function's name and the call, for each call of a translation function."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in {*TRANSLATORS, PLURAL, *OTHER_TRANSLATORS}:
                yield name, node


def in_python(path: Path) -> Iterator[Message]:
    for _name, call in calls(path):
        match call.args:
            case [ast.Constant(value=str(text))]:
                yield text, ""
            case [ast.Constant(value=str(one)), ast.Constant(value=str(many)), _count]:
                yield one, many


def in_template(path: Path) -> Iterator[Message]:
    text = templatize(path.read_text())
    yield from ((ast.literal_eval(quoted), "") for quoted in IN_TEMPLATE.findall(text.replace("ngettext(", "")))
    for one, many in PLURAL_IN_TEMPLATE.findall(text):
        yield ast.literal_eval(one), ast.literal_eval(many)


def translations(entry: polib.POEntry | polib.MOEntry) -> list[str]:
    return list(entry.msgstr_plural.values()) if entry.msgid_plural else [entry.msgstr]


def messages() -> set[Message]:
    found = {text for path in python_files() for text in in_python(path)}
    return found | {text for path in template_files() for text in in_template(path)}


@pytest.fixture(scope="module")
def japanese() -> polib.POFile:
    return polib.pofile(str(FOLDER / "django.po"))


def test_messages_are_found() -> None:
    plain = {("There is no tenant %(id)s.", ""), ("Backups overdue", ""), ("Go to the control site", "")}
    assert {*plain, ("Removed: %(count)d file.", "Removed: %(count)d files.")} <= messages()


def test_every_message_is_translated(japanese: polib.POFile) -> None:
    translated = {(entry.msgid, entry.msgid_plural) for entry in japanese if entry.translated()}
    assert sorted(messages() - translated) == [], HINT


def test_no_unused_message_is_translated(japanese: polib.POFile) -> None:
    assert sorted({(entry.msgid, entry.msgid_plural) for entry in japanese} - messages()) == [], HINT


def test_nothing_is_fuzzy_or_obsolete(japanese: polib.POFile) -> None:
    assert [entry.msgid for entry in (*japanese.fuzzy_entries(), *japanese.obsolete_entries())] == [], HINT


def test_placeholders_are_the_same(japanese: polib.POFile) -> None:
    differing = [
        entry.msgid
        for entry in japanese
        for text in translations(entry)
        if sorted(PLACEHOLDER.findall(entry.msgid_plural or entry.msgid)) != sorted(PLACEHOLDER.findall(text))
    ]
    assert differing == []


def test_outer_blanks_are_no_accident(japanese: polib.POFile) -> None:
    assert [entry.msgid for entry in japanese for text in translations(entry) if text != text.strip()] == []


def test_a_singular_needs_no_more_than_its_plural() -> None:
    assert [
        one for one, many in messages() if many and {*PLACEHOLDER.findall(one)} - {*PLACEHOLDER.findall(many)}
    ] == []


def test_counts_agree_with_their_nouns() -> None:
    """A message without a plural form would say "1 tenants"."""
    counted = {text for text, plural in messages() if not plural and COUNTED.search(text)}
    assert sorted(counted - COUNTED_ALWAYS_MANY) == [], "use ngettext"


def test_compiled_translation_is_in_step(japanese: polib.POFile) -> None:
    compiled = {entry.msgid: translations(entry) for entry in polib.mofile(str(FOLDER / "django.mo"))}
    assert compiled == {entry.msgid: translations(entry) for entry in japanese.translated_entries()}, HINT


def test_django_uses_it() -> None:
    with translation.override("ja"):
        assert translation.gettext("There is no tenant %(id)s.") % {"id": "a"} == "テナント a はありません。"


def test_messages_are_literals() -> None:
    """gettext cannot find a message that is built at run time: `_(f"…")`, `_("…" % …)`. A variable is allowed."""
    found = [
        (f"{path.relative_to(CHECKOUT)}:{call.lineno}", name, call)
        for path in python_files()
        for name, call in calls(path)
    ]
    assert [where for where, name, _call in found if name in OTHER_TRANSLATORS] == [], "teach this test about them"
    texts = [(where, text) for where, name, call in found for text in call.args[: 2 if name == PLURAL else 1]]
    assert [where for where, text in texts if not isinstance(text, ast.Constant | ast.Name)] == []
