"""Try a version of a prompt, active or not: render it, and on request send the text to a model once.

A call writes two audit entries: before it begins, the most that it can use and cost; when it has
ended, what is known of its use. So a limit is on record even if the process dies. The call's output
is returned, and stored nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext as _

from audit.log.entries import record
from config.base.databases import return_control_connection
from config.base.errors import SeoGenError
from llm.clients.registry import client_for
from llm.context import estimated_tokens, require_fits
from llm.errors import LLMError
from llm.prices.cost import cost_limit, cost_of
from llm.selectors import resolve_model
from llm.types import LLMReply, LLMRequest, ResolvedModel, TokenUsage
from prompts.app_hooks import past_runs
from prompts.errors import InvalidPrompt
from prompts.models import Prompt
from prompts.rendering import declared_variables, render
from prompts.selectors import prompt_get
from tenants.routing.context import tenant_context


@dataclass(frozen=True)
class Trial:
    """A rendered version, the model that it would be sent to, and the most that the call can use."""

    prompt: Prompt
    run_id: str | None
    text: str
    model: ResolvedModel
    max_input_tokens: int
    # US dollars; None if a price of the model is not known.
    cost_limit: Decimal | None


@dataclass(frozen=True)
class TestedPrompt:
    """What the model replied, and what that cost (US dollars; None if a price is not known)."""

    trial: Trial
    reply: LLMReply
    cost: Decimal | None


def prompt_preview(
    *,
    tenant_id: str,
    step: str,
    version: int | None = None,
    run_id: str | None = None,
    inputs: Mapping[str, object] | None = None,
    provider_id: str | None = None,
    model_class: str | None = None,
) -> Trial:
    """Render a version, the active one if `version` is None, without a call.

    The values are those of the run `run_id`, if one is given, and `inputs`, which take precedence. The model is the one
    that the tenant's new runs use for the step, unless a provider or a class is named. Showing a run's texts is
    audited. Raises `TenantError`, `PromptError`, `LLMError`, or what `PastRuns.values` raises.
    """
    with tenant_context(tenant_id) as alias:
        model = _model(alias, step, provider_id, model_class)
        trial = _trial(alias, prompt_get(alias=alias, step=step, version=version), run_id, inputs or {}, model)
        if run_id is not None:
            with transaction.atomic(using=alias):
                _record(alias, "prompt.preview", trial)
    return trial


def prompt_test(
    *,
    tenant_id: str,
    step: str,
    version: int | None = None,
    run_id: str | None = None,
    inputs: Mapping[str, object] | None = None,
    provider_id: str | None = None,
    model_class: str | None = None,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> TestedPrompt:
    """Render a version as `prompt_preview` does, send the text to the model once, and return the reply and its cost.

    `on_trial` is called before the call begins, and may stop it by raising. During the call, no
    transaction is open, and pooled connections are returned; but a caller that is already in the
    tenant's context, as the admin is, keeps the tenant's. Raises what `prompt_preview` raises.
    """
    with tenant_context(tenant_id) as alias:
        model = _model(alias, step, provider_id, model_class)
        client = client_for(model.access)
        trial = _trial(alias, prompt_get(alias=alias, step=step, version=version), run_id, inputs or {}, model)
        require_fits(model, trial.text)
        on_trial(trial)
        with transaction.atomic(using=alias):
            _record(alias, "prompt.test", trial, **_limits(trial))
    return_control_connection()
    request = LLMRequest(
        model=model.model_name,
        prompt=trial.text,
        max_output_tokens=model.max_output_tokens,
        timeout_s=settings.LLM_TIMEOUT_S,
        stall_timeout_s=settings.LLM_STALL_TIMEOUT_S,
    )
    try:
        reply = client.complete(request)
    except BaseException as error:
        _record_end(tenant_id, "prompt.test.fail", trial, **_failed(model, error))
        raise
    cost = cost_of(reply.usage, model.prices)
    _record_end(tenant_id, "prompt.test.complete", trial, **_used(reply.usage, cost, reply.request_id))
    return TestedPrompt(trial, reply, cost)


def _model(alias: str, step: str, provider_id: str | None, model_class: str | None) -> ResolvedModel:
    """Return the model to call: the tenant's for the step, unless the provider or the class is given."""
    model = past_runs().model(alias=alias, step=step, provider_id=provider_id, model_class=model_class)
    if model is not None:
        return model
    if provider_id is None:
        raise InvalidPrompt(
            _("Step %(step)s is not in the pipeline, so it has no model.") % {"step": step},
            hint=_("Add the step in the admin under Pipeline, or name a provider: `seo-gen prompt test --provider`."),
            page_hint=_("Add the step on the page “Pipeline”."),
            code="prompt_without_model",
        )
    return resolve_model(provider_id, model_class or "standard")


def _trial(alias: str, prompt: Prompt, run_id: str | None, inputs: Mapping[str, object], model: ResolvedModel) -> Trial:
    variables = declared_variables(prompt.variables)
    past = (
        past_runs().values(alias=alias, run_id=run_id, step=prompt.step, variables=variables)
        if run_id is not None
        else {}
    )
    strangers = sorted(inputs.keys() - {variable.name for variable in variables})
    if strangers:
        raise InvalidPrompt(
            _("Prompt %(prompt)s does not declare these variables: %(names)s.")
            % {"prompt": prompt, "names": ", ".join(strangers)},
            code="prompt_input_unknown",
        )
    text = render(prompt.content, variables, {**past, **inputs}, prompt=f"{prompt.pk} ({prompt})")
    tokens = estimated_tokens(text)
    limit = cost_limit(tokens, model.max_output_tokens, model.prices)
    return Trial(prompt, run_id, text, model, tokens, limit)


def _limits(trial: Trial) -> dict[str, object]:
    return {
        "max_input_tokens": trial.max_input_tokens,
        "max_output_tokens": trial.model.max_output_tokens,
        "cost_limit": _amount(trial.cost_limit),
    }


def _used(usage: TokenUsage, cost: Decimal | None, request_id: str) -> dict[str, object]:
    return {"token_usage": usage.as_document(), "cost": _amount(cost), "request": request_id or None}


def _failed(model: ResolvedModel, error: BaseException) -> dict[str, object]:
    """Return what is known about a failed call: its error's code, and its usage or else whether it may be billed."""
    code = error.code if isinstance(error, SeoGenError) else type(error).__name__
    if isinstance(error, LLMError) and error.usage is not None:
        return {"error": code, **_used(error.usage, cost_of(error.usage, model.prices), error.request_id)}
    billed = error.may_be_billed if isinstance(error, LLMError) else True
    return {"error": code, "may_be_billed": billed}


def _record_end(tenant_id: str, action: str, trial: Trial, **details: object) -> None:
    with tenant_context(tenant_id) as alias, transaction.atomic(using=alias):
        _record(alias, action, trial, **details)


def _record(alias: str, action: str, trial: Trial, **details: object) -> None:
    prompt, model = trial.prompt, trial.model
    record(
        using=alias,
        action=action,
        resource_type="prompt",
        resource_id=str(prompt.pk),
        details={
            "step": prompt.step,
            "version": prompt.version,
            "run": trial.run_id,
            "provider": model.provider_id,
            "model": model.model_name,
            **details,
        },
    )


def _amount(amount: Decimal | None) -> str | None:
    """Return US dollars (or None) as text, because as a JSON number they would become a float."""
    return None if amount is None else str(amount)
