"""Present versions of prompts, and how they were used, in the commands about prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from config.base.output import print_table
from config.base.times import to_minute
from prompts.management.commands._given import money


def print_versions(prompts: Sequence[Any]) -> None:
    columns = [
        _("step"),
        _("version"),
        _("state"),
        _("author"),
        _("created"),
        _("times used"),
        _("failure rate"),
        _("mean cost"),
    ]
    print_table([*columns, _("note")], [_row(prompt) for prompt in prompts])


def state_of(prompt: Any) -> str:
    if prompt["is_active"]:
        return _("active")
    return _("used before") if prompt["used_at"] else _("draft")


def percent(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.0%}"


def _row(prompt: Any) -> tuple[object, ...]:
    usage = prompt["usage"]
    return (
        prompt["step"],
        f"v{prompt['version']}",
        state_of(prompt),
        prompt["author"] or "",
        when(prompt["created_at"]),
        usage["used"],
        percent(usage["failure_rate"]),
        "" if usage["mean_cost"] is None else money(usage["mean_cost"]),
        prompt["note"] or "",
    )


def when(moment: str) -> str:
    parsed = parse_datetime(moment)
    return to_minute(parsed) if parsed else moment
