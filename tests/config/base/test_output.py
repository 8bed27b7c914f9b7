"""Amounts have one form on all pages."""

from __future__ import annotations

from decimal import Decimal

import pytest

from config.base.output import dollars

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "0.00"),
        ("0E-15", "0.00"),
        ("50", "50.00"),
        ("1250.5", "1,250.50"),
        ("0.030000", "0.03"),
        ("0.0375", "0.0375"),
        ("12.34567", "12.3457"),
        ("0.00001", "0.00001"),
    ],
)
def test_dollars_have_cents_or_hundredths_of_a_cent(amount: str, text: str) -> None:
    assert dollars(Decimal(amount)) == text
