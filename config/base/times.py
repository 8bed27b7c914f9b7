"""Times as people read them on pages: in the zone of TIME_ZONE, and with its name."""

from __future__ import annotations

from datetime import datetime

from django.utils.timezone import localtime


def to_minute(at: datetime) -> str:
    """Return a time such as "2026-11-26 21:31 JST", as DATETIME_FORMAT writes it."""
    return f"{localtime(at):%Y-%m-%d %H:%M %Z}"


def to_second(at: datetime) -> str:
    return f"{localtime(at):%Y-%m-%d %H:%M:%S %Z}"


def clock(at: datetime) -> str:
    """Return the time of day, for a place that names the date."""
    return f"{localtime(at):%H:%M:%S %Z}"
