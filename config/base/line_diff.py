"""Compare two texts line by line. Imports neither Django nor an app."""

import difflib
from collections.abc import Sequence


def line_diff(old: str, new: str, *, old_name: str, new_name: str) -> str:
    """Return the difference in the unified format, with three lines of context; "" if there is none.

    Whether the last line ends with a line feed does not matter.
    """
    return "".join(difflib.unified_diff(_lines(old), _lines(new), old_name, new_name))


def _lines(text: str) -> Sequence[str]:
    """Split the text at line feeds only; end each line with one, as the format requires."""
    return [f"{line}\n" for line in text.removesuffix("\n").split("\n")] if text else []
