"""Names and keywords as people paste them: invisible characters at the ends, blank texts, control characters."""

import pytest

from config.base.text import has_control_characters, is_blank, strip_invisible

pytestmark = pytest.mark.unit

FAMILY = "👨\u200d👩\u200d👧"
FLAG_OF_WALES = "🏴\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  tea ", "tea"),
        ("\ufefftea", "tea"),
        ("\u200b\u3000tea\u00a0\u200b", "tea"),
        ("\u202atea\u202c", "tea"),
        ("株式会社\u3000テスト", "株式会社\u3000テスト"),
        (f"{FAMILY} Ltd", f"{FAMILY} Ltd"),
        (FLAG_OF_WALES, FLAG_OF_WALES),
        # A character for private use, in which rare Japanese names are written.
        ("\ue000", "\ue000"),
    ],
)
def test_invisible_characters_at_the_ends_are_stripped(text: str, expected: str) -> None:
    assert strip_invisible(text) == expected


@pytest.mark.parametrize("text", ["", " ", "\u200b", "\ufeff", "\u3000\u00a0", "\u3164", "\u2800", "\ufe0f", "\u0301"])
def test_a_text_without_visible_characters_is_blank(text: str) -> None:
    assert is_blank(text)
    assert strip_invisible(text) == ""


@pytest.mark.parametrize("text", ["a\x00b", "a\nb", "\x1b[31m", "a\u2028b", "a\x85b", "a\u202eb", "a\ud800b"])
def test_what_breaks_a_line_or_its_direction_is_a_control_character(text: str) -> None:
    assert has_control_characters(text)


@pytest.mark.parametrize("text", ["a\u3000b", "a\u00a0b", FAMILY, FLAG_OF_WALES, "می\u200cخواهم", "\ue000"])
def test_spaces_and_joiners_are_not_control_characters(text: str) -> None:
    assert not has_control_characters(text)
