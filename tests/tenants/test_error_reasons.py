"""`reason_of`: an error's first line without credentials; if the error has no text, the name of its class."""

from __future__ import annotations

import pytest

from tenants.errors import reason_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            "connection to postgresql://ann:se@cret@db:5432/x failed.\nDETAIL: more",
            "connection to postgresql://db:5432/x failed",
        ),
        ("no such host: db", "no such host: db"),
        ("", "ValueError"),
    ],
)
def test_a_reason_has_no_credentials(message: str, reason: str) -> None:
    assert reason_of(ValueError(message)) == reason
