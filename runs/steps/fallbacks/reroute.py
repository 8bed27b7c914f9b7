"""Move a waiting step to its first fallback that can be called."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from django.db.models import Q
from django.db.models.functions import Now

from audit.log.entries import record
from llm.errors import LLMError
from llm.selectors import find_model, require_key
from llm.types import ResolvedModel
from runs.models import Call, CallStatus, Step
from runs.steps.wake import rewake_s, route_of, waiting_of, wake_on_commit
from runs.turns import snapshot
from runs.types import PinnedFallback, ReroutedDocument, RerouteReason


def open_routes() -> frozenset[str]:
    """Return the routes whose breaker is open; an empty set if that is not known.

    A breaker is open after faults in a row, and for the time that the provider asked us to wait.
    """
    seen = snapshot()
    return frozenset(load.route for load in seen.routes if load.breaker == "open") if seen else frozenset()


def step_reroute(*, alias: str, tenant_id: str, row: Step, reason: RerouteReason, open_routes: Collection[str]) -> bool:
    """Move the step to its first usable fallback, and wake a worker after the commit; return whether it was moved.

    The caller has locked the run and the step, which is pending. A step is moved only if its calls certainly used no
    tokens: a step has one set of prices, which its next claim pins anew, so tokens that were used before would get the
    wrong price. The fallback is removed from the step's list, so that a step cannot move forever.
    """
    if not row.fallbacks or _may_have_used_tokens(alias, row):
        return False
    found = _first_usable(row.fallbacks, open_routes)
    if found is None:
        return False
    fallback, model = found
    before = route_of(row.llm_provider, row.llm_model)
    row.llm_provider, row.llm_model = model.provider_id, model.model_name
    rerouted: ReroutedDocument = {"from": before, "reason": reason}
    Step.objects.using(alias).filter(pk=row.pk).update(
        llm_provider=row.llm_provider,
        llm_model=row.llm_model,
        fallbacks=[other for other in row.fallbacks if other != fallback],
        rerouted=rerouted,
        output_limit=min(row.output_limit, model.max_output_tokens) if row.output_limit else None,
        # The delay and the time budget of retries were about the other provider.
        not_before=None,
        failing_since=None,
        # The sweep repeats the wake-up if it is lost.
        wake_after=Now() + timedelta(seconds=rewake_s(0)),
        wake_count=0,
        prices=None,
        cost_per_1k_input_tokens=None,
        cost_per_1k_output_tokens=None,
    )
    wake_on_commit(alias=alias, waiting=waiting_of(tenant_id, row))
    route = route_of(row.llm_provider, row.llm_model)
    record(
        using=alias,
        action="step.reroute",
        resource_type="step",
        resource_id=str(row.pk),
        details={"run_id": str(row.run_id), "step": row.step, "from": before, "to": route, "reason": reason},
    )
    return True


def _may_have_used_tokens(alias: str, row: Step) -> bool:
    """Return whether the step has used tokens, or has a call that may have used some.

    Under the same condition, a claim stores no new prices (`TAKE` in `runs.steps.claim`).
    """
    certain = Q(status=CallStatus.SETTLED, token_usage={})
    return bool(row.token_usage) or Call.objects.using(alias).filter(~certain, step_id=row.pk).exists()


def _first_usable(
    fallbacks: Collection[PinnedFallback], open_routes: Collection[str]
) -> tuple[PinnedFallback, ResolvedModel] | None:
    for fallback in fallbacks:
        model = find_model(fallback["provider"], fallback["model"])
        if model is None or not model.is_active or route_of(model.provider_id, model.model_name) in open_routes:
            continue
        if _has_key(model.provider_id):
            return fallback, model
    return None


def _has_key(provider_id: str) -> bool:
    """Return whether this worker can call the provider."""
    try:
        require_key(provider_id)
    except LLMError:
        return False
    return True
