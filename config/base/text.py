"""Clean and check text that people type or paste: names, keywords, short inputs. Imports neither Django nor an app."""

import unicodedata

# Overrides of the writing direction, which disguise the text that follows.
_OVERRIDES = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
# Invisible at the ends of a text and pasted by accident: byte order mark, zero-width space and joiners, soft hyphen,
# the direction marks that spreadsheets add. In the middle, joiners are part of emoji and of words in some languages.
INVISIBLE = "\u00ad\u180e\u200b\u200c\u200d\u200e\u200f\u2060\ufeff" + _OVERRIDES
# Control characters, line and paragraph separators, and lone surrogates, which no file or database can store.
_CONTROL = frozenset({"Cc", "Zl", "Zp", "Cs"})
# Spaces, controls, format characters and marks without a letter. Unassigned characters count as visible, and so do the
# private-use characters in which some Japanese names are written.
_UNSEEN = frozenset({"Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Mn", "Mc", "Me"})
# Letters and symbols by category, but displayed as blanks.
_BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")


def strip_invisible(text: str) -> str:
    """Strip white space and invisible characters from both ends; return "" if nothing visible is left."""
    stripped = None
    while stripped != text:
        stripped, text = text, text.strip().strip(INVISIBLE)
    return "" if is_blank(text) else text


def is_blank(text: str) -> bool:
    """Return whether the text has no visible character."""
    return all(unicodedata.category(each) in _UNSEEN or each in _BLANK_LETTERS for each in text)


def has_control_characters(text: str) -> bool:
    """Return whether a text contains control characters, line breaks, lone surrogates or direction overrides.

    Spaces of every width are allowed, including ideographic and no-break spaces, and so are joiners.
    (`str.isprintable` rejects those.)
    """
    return any(unicodedata.category(each) in _CONTROL or each in _OVERRIDES for each in text)
