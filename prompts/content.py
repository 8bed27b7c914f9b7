"""Normalize and check a template, its variables and its note before they are stored or used."""

from dataclasses import dataclass

from django.utils.translation import gettext as _

from config.base.text import has_control_characters
from prompts.errors import InvalidPrompt, PromptMismatch
from prompts.models import Prompt
from prompts.rendering import MAX_TEMPLATE_CHARS, declared_variables, names_used, undeclared, unused

MAX_NOTE_CHARS = 500


@dataclass(frozen=True)
class Disagreement:
    """The names that a template and its variables disagree about: sorted, comma-separated, "" if there are none."""

    undeclared: str
    unused: str


def normalised(content: str) -> str:
    """Return the text with LF line endings and without a byte order mark.

    Browsers always send CRLF, so without this every line would differ from the previous version.
    """
    return content.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def clean_content(content: str) -> str:
    """Return the template as it is stored.

    Raises `InvalidPrompt` if it is empty or too long, contains NUL, is not a single template, or cannot be compiled
    within the limits, and `SandboxUnavailable` if it cannot be checked now.
    """
    content = normalised(content)
    if not content.strip():
        raise InvalidPrompt(_("The template is empty."))
    if len(content) > MAX_TEMPLATE_CHARS:
        raise InvalidPrompt(_("The template is longer than %(limit)d characters.") % {"limit": MAX_TEMPLATE_CHARS})
    if "\x00" in content:
        raise InvalidPrompt(_("The template contains a NUL character."))
    names_used(content)
    return content


def clean_note(note: str) -> str:
    """Return the note as it is stored. Raises `InvalidPrompt` if it is missing, too long or not one line of text."""
    note = note.strip()
    if not note:
        raise InvalidPrompt(_("A note is missing: say what this version changes, and why."), code="prompt_note_missing")
    if len(note) > MAX_NOTE_CHARS:
        raise InvalidPrompt(_("The note is longer than %(limit)d characters.") % {"limit": MAX_NOTE_CHARS})
    if has_control_characters(note):
        raise InvalidPrompt(_("The note must be one line of text without control characters."))
    return note


def disagreement(content: str, document: object) -> Disagreement:
    """Return the names that a template and the JSON of its variables disagree about.

    Raises `InvalidPrompt` if either is invalid, or `SandboxUnavailable`.
    """
    variables = declared_variables(document)
    return Disagreement(
        ", ".join(sorted(undeclared(content, variables))), ", ".join(sorted(unused(content, variables)))
    )


def undeclared_sentence(names: str) -> str:
    return _("The template uses undeclared variables: %(undeclared)s.") % {"undeclared": names}


def unused_sentence(names: str) -> str:
    return _("The template does not use these declared variables: %(unused)s.") % {"unused": names}


def require_agreement(content: str, document: object) -> None:
    """Raise `PromptMismatch` if a template that is to be saved and its variables disagree.

    Also raises what `disagreement` raises.
    """
    found = disagreement(content, document)
    if found.undeclared and found.unused:
        raise PromptMismatch(
            _("The template uses undeclared variables (%(undeclared)s) and does not use declared ones (%(unused)s).")
            % {"undeclared": found.undeclared, "unused": found.unused}
        )
    if found.undeclared:
        raise PromptMismatch(undeclared_sentence(found.undeclared))
    if found.unused:
        raise PromptMismatch(unused_sentence(found.unused))


def check_agreement(prompt: Prompt) -> None:
    """Raise `PromptMismatch`, with the prompt's id, if the template and the variables of a stored version disagree.

    Also raises what `disagreement` raises.
    """
    found = disagreement(prompt.content, prompt.variables)
    if found.undeclared and found.unused:
        message = _(
            "Prompt %(id)d (%(prompt)s) cannot be used: it uses undeclared variables (%(undeclared)s) and does not"
            " use declared ones (%(unused)s)."
        )
    elif found.undeclared:
        message = _("Prompt %(id)d (%(prompt)s) cannot be used: it uses undeclared variables: %(undeclared)s.")
    elif found.unused:
        message = _("Prompt %(id)d (%(prompt)s) cannot be used: it does not use declared variables: %(unused)s.")
    else:
        return
    names = {"undeclared": found.undeclared, "unused": found.unused}
    raise PromptMismatch(message % {"id": prompt.pk, "prompt": prompt, **names})
