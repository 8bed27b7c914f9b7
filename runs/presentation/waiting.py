"""Describe why a run is waiting."""

from __future__ import annotations

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from config.base.times import to_second
from runs.presentation.times import duration, local_time, parsed, seconds_between
from runs.types import WaitDocument
from tenants.errors import bare


def waiting_text(wait: WaitDocument, *, now: str) -> str:
    """Return a phrase such as "waiting for a worker; one was last seen 3 s ago".

    `now` is when the document was read.
    """
    route, before = wait["route"] or "-", max(0, (wait["position"] or 1) - 1)
    seen_at = wait["worker_seen_at"]
    phrases = {
        "paused": _("paused by %(by)s at %(since)s"),
        "hold": _("created on hold by %(by)s at %(since)s"),
        "review": _("waiting for a review before step %(step)s since %(since)s"),
        "budget": _("paused before step %(step)s at %(since)s: %(error)s"),
        "retry": _("retry at %(until)s (%(error)s)"),
        "worker": _("waiting for a worker; one was last seen %(ago)s ago") if seen_at else _("waiting for a worker"),
        "no worker": _("waiting for a worker; none has been seen in the last day"),
        "lost worker": _("the worker of step %(step)s was lost; the step is waiting for another worker"),
        "turn": ngettext(
            "waiting for its turn (%(n)d step of the tenant ahead of it)",
            "waiting for its turn (%(n)d steps of the tenant ahead of it)",
            before,
        ),
        "tenant_limit": _("the tenant has reached its limit on simultaneous steps"),
        "provider_limit": _("provider %(provider)s has reached its limit on simultaneous calls"),
        "model_limit": _("model %(route)s has reached its limit on simultaneous calls"),
        "requests_per_minute": _(
            "the requests-per-minute limit of %(route)s or of its provider is reached (next try: %(until)s)"
        ),
        "tokens_per_minute": _(
            "the tokens-per-minute limit of %(route)s or of its provider is reached (next try: %(until)s)"
        ),
        "breaker": _("%(route)s has failed repeatedly or is rate-limited (next try: %(until)s)")
        if wait["until"]
        else _("%(route)s has failed repeatedly or is rate-limited; another call is trying it now"),
    }
    return phrases[wait["reason"]] % {
        "step": wait["step"],
        "by": wait["by"] or "-",
        "since": _since(wait["since"]),
        "until": _until(wait["until"], now),
        "error": bare(wait["error"] or "-"),
        "ago": duration(seconds_between(seen_at, now)) if seen_at else "",
        "n": before,
        "route": route,
        "provider": route.partition("/")[0],
    }


def _since(moment: str | None) -> str:
    return to_second(parsed(moment)) if moment else ""


def _until(moment: str | None, now: str) -> str:
    return local_time(moment, day=now) or "-"
