"""Describe which fallback a step uses, and why."""

from __future__ import annotations

from django.utils.translation import gettext as _

from runs.models import StepStatus
from runs.types import ReroutedDocument, StepDocument


def rerouted_text(*, step: str, status: str, route: str, rerouted: ReroutedDocument | None) -> str | None:
    """Return a sentence about the step's current route and the one that it left; None if it has left none."""
    if rerouted is None:
        return None
    answered = {
        "breaker_open": _(
            "Step %(step)s used %(route)s instead of %(before)s, which had failed repeatedly or was rate-limited."
        ),
        "model_inactive": _(
            "Step %(step)s used %(route)s instead of %(before)s, which was inactive, retired or removed."
        ),
    }
    asked = {
        "breaker_open": _(
            "Step %(step)s uses %(route)s instead of %(before)s, which had failed repeatedly or was rate-limited."
        ),
        "model_inactive": _(
            "Step %(step)s uses %(route)s instead of %(before)s, which was inactive, retired or removed."
        ),
    }
    texts = answered if status == StepStatus.COMPLETED else asked
    return texts[rerouted["reason"]] % {"step": step, "route": route, "before": rerouted["from"]}


def rerouted_line(step: StepDocument) -> str | None:
    """Return `rerouted_text` for a step of a run's document; None if the step has left no route."""
    route = f"{step['llm_provider']}/{step['llm_model']}"
    return rerouted_text(step=step["step"], status=step["status"], route=route, rerouted=step["rerouted"])
