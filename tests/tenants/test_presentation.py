"""Times as operators write them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from tenants.errors import TenantError
from tenants.presentation import aware_time

pytestmark = pytest.mark.unit

TOKYO = timezone(timedelta(hours=9))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31T12:00:00+09:00", datetime(2026, 1, 31, 12, tzinfo=TOKYO)),
        ("2026-01-31 12:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
    ],
)
def test_a_time_with_an_offset(text: str, moment: datetime) -> None:
    assert aware_time(text) == moment


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("2026-01-31T12:00", "Add the offset, as in 2026-01-31T12:00+09:00, or Z for UTC."),
        ("2026-01-31", "Use the form 2026-01-31T12:00:00+09:00."),
        # For Python, midnight of no zone, and nine o'clock in Tokyo.
        ("2026-01-31+09:00", "Use the form 2026-01-31T12:00:00+09:00."),
        ("2026-01-31+09:00+09:00", "Use the form 2026-01-31T12:00:00+09:00."),
        ("9999-12-31T23:59:59-12:00", "Use the form 2026-01-31T12:00:00+09:00."),
        ("0001-01-01T00:00:00+14:00", "Use the form 2026-01-31T12:00:00+09:00."),
        ("yesterday", "Use the form 2026-01-31T12:00:00+09:00."),
    ],
)
def test_a_time_that_could_mean_another_is_refused(text: str, hint: str) -> None:
    with pytest.raises(TenantError) as refused:
        aware_time(text)
    assert (refused.value.code, refused.value.hint) == ("time_invalid", hint)
