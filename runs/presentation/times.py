"""Human-readable times and durations."""

from __future__ import annotations

from datetime import date, datetime

from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from config.base import times

MINUTE_S, HOUR_S, DAY_S = 60, 60 * 60, 24 * 60 * 60


def parsed(moment: str) -> datetime:
    """Return a document's time in the local time zone."""
    return localtime(datetime.fromisoformat(moment))


def local(moment: str | None) -> str:
    """Return a time of a document in the local time zone, with its date; "" for None."""
    return times.to_second(datetime.fromisoformat(moment)) if moment else ""


def local_time(moment: str | None, *, day: str) -> str:
    """Return a time in the local time zone, with its date only if that differs from the date of `day`; "" for None."""
    return clock(moment) if moment and _date(moment) == _date(day) else local(moment)


def clock(moment: str) -> str:
    """Return a document's time in the local time zone, without its date."""
    return times.clock(datetime.fromisoformat(moment))


def duration(seconds: float) -> str:
    """Return a duration in its largest unit: "12 s", "5 min", "3 h", "2 d"."""
    if seconds < MINUTE_S:
        return _("%(number)d s") % {"number": seconds}
    if seconds < HOUR_S:
        return _("%(number)d min") % {"number": seconds / MINUTE_S}
    if seconds < DAY_S:
        return _("%(number)d h") % {"number": seconds / HOUR_S}
    return _("%(number)d d") % {"number": seconds / DAY_S}


def seconds_between(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def _date(moment: str) -> date:
    return parsed(moment).date()
