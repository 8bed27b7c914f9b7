"""Decide whether a failed attempt is followed by another."""

from __future__ import annotations

from collections.abc import Mapping

from django.conf import settings
from django.utils import timezone
from django.utils.translation import ngettext

from config.base.errors import SeoGenError
from llm.errors import LLMError
from llm.models import OnTruncation
from prompts.errors import SandboxUnavailable
from runs.errors import OutputTruncated
from runs.models import Call
from runs.types import Claim
from tenants.errors import StorageError, bare

# The provider sent, and may have billed, a reply that cannot be used. Each retry may be billed again, so these are
# limited by number too; retries after other errors that may pass are limited only by time.
ANSWERED = ("llm_reply_malformed", "llm_reply_empty")
OUTPUT_LIMIT = "llm_output_limit_reached"


def may_pass(error: Exception) -> bool:
    """Return whether a retry may succeed."""
    if isinstance(error, LLMError):
        return not error.permanent
    return isinstance(error, (StorageError, SandboxUnavailable))


def given_up(alias: str, claim: Claim, error: Exception) -> str | None:
    """Return why a step is not retried any more after a transient error; None if it is retried."""
    reason = bare(str(error))
    if _code(error) in ANSWERED:
        answered = _answered_calls(alias, claim) + 1
        if answered >= settings.RUN_MAX_ATTEMPTS:
            return ngettext(
                "%(reason)s (given up after %(n)d unusable reply)",
                "%(reason)s (given up after %(n)d unusable replies)",
                answered,
            ) % {"reason": reason, "n": answered}
    failing_s = (timezone.now() - claim.failing_since).total_seconds() if claim.failing_since else 0.0
    if claim.failing_since is not None and failing_s >= retry_budget_s(claim):
        return ngettext(
            "%(reason)s (given up after %(seconds)d s and %(n)d failed attempt)",
            "%(reason)s (given up after %(seconds)d s and %(n)d failed attempts)",
            claim.failures + 1,
        ) % {"reason": reason, "seconds": failing_s, "n": claim.failures + 1}
    return None


def larger_limit(claim: Claim, error: Exception) -> int | None:
    """Return the output limit for another try after a reply that reached it.

    Returns None for any other error, or if no larger limit is possible. A step without a limit of its own gets one more
    try, with twice the model's limit, if it is configured that way and the model's context has room for that.
    """
    is_at_limit = error.code in (OutputTruncated.code, OUTPUT_LIMIT) if isinstance(error, SeoGenError) else False
    if not is_at_limit or claim.on_truncation != OnTruncation.RETRY or claim.max_output_tokens is not None:
        return None
    model = claim.resolved
    if model is None:
        return None
    larger = 2 * model.max_output_tokens
    fits = model.context_window is None or larger < model.context_window
    return larger if fits else None


def retry_budget_s(claim: Claim) -> float:
    """Return the seconds for which a step is retried after its first failure: the run's own limit or the setting."""
    own = claim.config.get("retry_budget_s") if isinstance(claim.config, Mapping) else None
    return float(own) if isinstance(own, (int, float)) else settings.RUN_RETRY_BUDGET_S


def _answered_calls(alias: str, claim: Claim) -> int:
    """Return how many of the step's calls since its first failure, before this one, got a reply that cannot be used."""
    if claim.failing_since is None:
        return 0
    calls = Call.objects.using(alias).filter(step_id=claim.step_id, version=claim.version, error_code__in=ANSWERED)
    return calls.filter(ended_at__gte=claim.failing_since).count()


def _code(error: Exception) -> str:
    return error.code if isinstance(error, LLMError) else ""
