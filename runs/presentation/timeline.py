"""What happened in a run, step by step and call by call, for a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _

from config.base.output import dollars
from config.base.times import clock, lasting, to_second
from runs.models import Call, CallStatus, Step, StepCost, StepStatus
from runs.presentation.cost import at_least
from runs.presentation.fallback import rerouted_text
from runs.presentation.finish import finish_text


@dataclass(frozen=True)
class CallEntry:
    """One request to a provider."""

    version: int
    attempt: int
    status: str
    label: str
    route: str
    started: str
    took: str
    tokens_in: int | None
    tokens_out: int | None
    cost: str
    # The error's code, or why the provider ended the reply.
    ended: str
    # Where its bar begins and how long it is, in per cent of the run.
    begins: float
    lasts: float


@dataclass(frozen=True)
class StepEntry:
    """One step, with its calls in order."""

    step: Step
    route: str
    started: str
    took: str
    tokens_in: int | None
    tokens_out: int | None
    cost: str
    rerouted: str | None
    calls: Sequence[CallEntry]


def timeline(
    *, steps: Iterable[Step], calls: Iterable[Call], costs: Mapping[int, StepCost], now: datetime
) -> list[StepEntry]:
    """Return an entry for each step, in order. `costs` are by step id; `now` is the database's time."""
    of_step: dict[int, list[Call]] = {}
    for call in calls:
        of_step.setdefault(call.step_id, []).append(call)
    steps = list(steps)
    moments = [call.started_at for each in of_step.values() for call in each]
    begin = min([*moments, *(step.started_at for step in steps if step.started_at)], default=now)
    ends = [call.ended_at or now for each in of_step.values() for call in each]
    ends += [step.completed_at for step in steps if step.completed_at]
    span_s = max(1.0, (max(ends, default=now) - begin).total_seconds())
    return [
        StepEntry(
            step,
            f"{step.llm_provider or '?'}/{step.llm_model or '?'}",
            moment(step.started_at),
            _took(step, now),
            *_tokens(step.token_usage),
            _step_cost(step, costs.get(step.pk)),
            rerouted_text(
                step=step.step,
                status=step.status,
                route=f"{step.llm_provider}/{step.llm_model}",
                rerouted=step.rerouted,
            ),
            [_call(call, begin, span_s, now) for call in of_step.get(step.pk, [])],
        )
        for step in steps
    ]


def moment(at: datetime | None) -> str:
    """Return a time with its date and zone; "" for None."""
    return to_second(at) if at else ""


def _call(call: Call, begin: datetime, span_s: float, now: datetime) -> CallEntry:
    end = call.ended_at or (now if call.status == CallStatus.OPEN else call.started_at)
    took_s = (end - call.started_at).total_seconds()
    begins = 100 * (call.started_at - begin).total_seconds() / span_s
    return CallEntry(
        call.version,
        call.attempt,
        call.status,
        call.get_status_display(),
        f"{call.llm_provider}/{call.llm_model}",
        clock(call.started_at),
        lasting(took_s),
        *_tokens(call.token_usage),
        _call_cost(call),
        call.error_code or finish_text(call.finish_reason),
        round(min(99.0, max(0.0, begins)), 2),
        round(min(100.0 - begins, max(0.5, 100 * took_s / span_s)), 2),
    )


def _step_cost(step: Step, cost: StepCost | None) -> str:
    """Return what the step's settled calls cost, such as "0.12 USD"; "" if they used no tokens.

    "at least" precedes the amount, or "cost unknown" replaces it, if a price is missing. A call whose
    outcome is unknown does not count.
    """
    if not step.token_usage:
        return ""
    if cost is None or cost.llm_cost is None:
        return _("cost unknown")
    return at_least(_("%(amount)s USD") % {"amount": dollars(cost.llm_cost)}, bool(cost.unpriced_tokens))


def _call_cost(call: Call) -> str:
    """Return the cost in US dollars, after "at least" or "at most" if it is not exact; "unknown" without prices."""
    if call.status == CallStatus.SETTLED:
        return _("unknown") if call.cost_usd is None else at_least(dollars(call.cost_usd), call.is_unpriced)
    if call.bound_usd is None:
        return _("unknown")
    return _("at most %(amount)s") % {"amount": dollars(call.bound_usd)}


def _tokens(usage: Mapping[str, int] | None) -> tuple[int | None, int | None]:
    return (usage.get("input"), usage.get("output")) if usage else (None, None)


def _took(step: Step, now: datetime) -> str:
    if step.started_at is None:
        return ""
    if step.completed_at is not None:
        return lasting((step.completed_at - step.started_at).total_seconds())
    return lasting((now - step.started_at).total_seconds()) if step.status == StepStatus.RUNNING else ""
