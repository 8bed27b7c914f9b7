"""Times as people read them on pages, in the zone of TIME_ZONE and with its name; and how long something took."""

from __future__ import annotations

from datetime import datetime

from django.utils.timezone import localtime
from django.utils.translation import gettext as _

MINUTE_S, HOUR_S = 60, 3600


def to_minute(at: datetime) -> str:
    """Return a time such as "2026-11-26 21:31 JST", as DATETIME_FORMAT writes it."""
    return f"{localtime(at):%Y-%m-%d %H:%M %Z}"


def to_second(at: datetime) -> str:
    return f"{localtime(at):%Y-%m-%d %H:%M:%S %Z}"


def clock(at: datetime) -> str:
    """Return the time of day, for use where the date is already shown."""
    return f"{localtime(at):%H:%M:%S %Z}"


def lasting(seconds: float) -> str:
    """Return a duration such as "4.2 s", "3 min 12 s" or "2 h 5 min"."""
    # Rounded first, so that no duration is shown as "60.0 s".
    seconds = round(max(0.0, seconds), 1)
    if seconds < MINUTE_S:
        return _("%(seconds).1f s") % {"seconds": seconds}
    minutes, rest = divmod(int(seconds), MINUTE_S)
    if seconds < HOUR_S:
        return _("%(minutes)d min %(seconds)d s") % {"minutes": minutes, "seconds": rest}
    return _("%(hours)d h %(minutes)d min") % {"hours": minutes // 60, "minutes": minutes % 60}
