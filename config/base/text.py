"""Text that people type or paste: names, keywords, short inputs. Knows neither Django nor an app."""

import unicodedata

# Overrides of the writing direction: what follows is shown as something else than it is.
_OVERRIDES = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
# Not seen at the ends of a text, and pasted by accident: byte order mark, zero-width space and joiners, soft hyphen,
# the direction marks that spreadsheets add. In the middle, joiners belong to emoji and to words of some languages.
INVISIBLE = "\u00ad\u180e\u200b\u200c\u200d\u200e\u200f\u2060\ufeff" + _OVERRIDES
# Control characters, line and paragraph separators, and halves of surrogate pairs, which no file or database holds.
_CONTROL = frozenset({"Cc", "Zl", "Zp", "Cs"})
# Spaces, controls, format characters and marks without a letter. Not what Unicode has not assigned to anything yet, nor
# the private characters in which some Japanese names are written.
_UNSEEN = frozenset({"Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Mn", "Mc", "Me"})
# Letters and symbols by their category, but empty to look at.
_BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")


def strip_invisible(text: str) -> str:
    """Return the text without white space and invisible characters at its ends; "" if it shows nothing at all."""
    stripped = None
    while stripped != text:
        stripped, text = text, text.strip().strip(INVISIBLE)
    return "" if is_blank(text) else text


def is_blank(text: str) -> bool:
    """Tell whether nothing of the text can be seen."""
    return all(unicodedata.category(each) in _UNSEEN or each in _BLANK_LETTERS for each in text)


def has_control_characters(text: str) -> bool:
    """Tell whether a text of one line holds what would break a line, a terminal or the direction of what follows.

    Spaces of every width are fine, the ideographic and the no-break one included, and so are joiners. (Not
    `str.isprintable`, which refuses those.)
    """
    return any(unicodedata.category(each) in _CONTROL or each in _OVERRIDES for each in text)
