"""Normalise and check a template before it is stored."""

from django.utils.translation import gettext as _

from prompts.errors import InvalidPrompt
from prompts.rendering import MAX_TEMPLATE_CHARS, names_used


def normalised(content: str) -> str:
    """Return the text with LF line endings and without a byte order mark.

    Browsers always send CRLF, so without this every line would differ from the previous version.
    """
    return content.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def clean_content(content: str) -> str:
    """Return the template as it is stored.

    Raises `InvalidPrompt` if it is empty, too long, or cannot be compiled within the limits.
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
