"""Finish reasons of all wires, in words."""

from __future__ import annotations

import pytest

from runs.presentation.finish import finish_text

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("stop", "output complete"),
        ("STOP", "output complete"),
        ("end_turn", "output complete"),
        ("length", "output truncated at a limit"),
        ("MAX_TOKENS", "output truncated at a limit"),
        ("content_filter", "stopped by the provider's filter"),
        ("refusal", "refused by the model"),
        ("Of_Another_Server", "Of_Another_Server"),
        ("", ""),
        (None, ""),
    ],
)
def test_known_reasons_have_words(reason: str | None, text: str) -> None:
    assert finish_text(reason) == text
