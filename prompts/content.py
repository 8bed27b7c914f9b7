"""The text of a template as it is stored, whichever way it comes in."""

from django.utils.translation import gettext as _

from prompts.errors import InvalidPrompt
from prompts.rendering import MAX_TEMPLATE_CHARS, names_used


def normalised(content: str) -> str:
    """Return the text with LF at the ends of its lines, and no byte order mark in front.

    Browsers send CRLF whatever they were given, so that each line would differ from the version before.
    """
    return content.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def clean_content(content: str) -> str:
    """Return the template as it is stored.

    Raises `InvalidPrompt` if it is empty, too long or no template that can be compiled within the limits.
    """
    content = normalised(content)
    if not content.strip():
        raise InvalidPrompt(_("The template is empty."))
    if len(content) > MAX_TEMPLATE_CHARS:
        raise InvalidPrompt(_("The template is longer than %(limit)d characters.") % {"limit": MAX_TEMPLATE_CHARS})
    if "\x00" in content:
        raise InvalidPrompt(_("The template holds a NUL character."))
    names_used(content)
    return content
