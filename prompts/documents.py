"""The documents about prompts that commands print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from prompts.app_hooks import past_runs
from prompts.models import Prompt
from prompts.selectors import prompt_get, prompt_versions
from prompts.types import UNUSED, VersionUsage
from tenants.models import TenantStatus
from tenants.routing.context import tenant_context

READABLE = (TenantStatus.ACTIVE, TenantStatus.SUSPENDED)


class UsageDocument(TypedDict):
    used: int
    completed: int
    failed: int
    # From 0 to 1; None until a step has ended.
    failure_rate: float | None
    mean_input_tokens: int | None
    mean_output_tokens: int | None
    # US dollars.
    mean_cost: float | None
    unpriced: int


class ListedPrompt(TypedDict):
    tenant_id: str
    id: int
    step: str
    version: int
    is_active: bool
    author: str | None
    note: str | None
    created_at: str
    used_at: str | None
    replaced_at: str | None
    usage: UsageDocument


class PromptDocument(ListedPrompt):
    content: str
    variables: object


def prompt_list(*, tenant_id: str, step: str | None = None) -> list[ListedPrompt]:
    """Return the tenant's versions by step, the newest first, without their texts. Raises `TenantError`."""
    with tenant_context(tenant_id, statuses=READABLE) as alias:
        prompts = list(prompt_versions(alias=alias, step=step))
        usage = past_runs().usage(alias=alias, prompt_ids=[prompt.pk for prompt in prompts])
    return [_listed(tenant_id, prompt, usage) for prompt in prompts]


def prompt_document(*, tenant_id: str, step: str, version: int | None = None) -> PromptDocument:
    """Return a version with its text; the active one if `version` is None. Raises `TenantError`, `UnknownPrompt`."""
    with tenant_context(tenant_id, statuses=READABLE) as alias:
        prompt = prompt_get(alias=alias, step=step, version=version)
        usage = past_runs().usage(alias=alias, prompt_ids=[prompt.pk])
    return PromptDocument(**_listed(tenant_id, prompt, usage), content=prompt.content, variables=prompt.variables)


def _listed(tenant_id: str, prompt: Prompt, usage: Mapping[int, VersionUsage]) -> ListedPrompt:
    return ListedPrompt(
        tenant_id=tenant_id,
        id=prompt.pk,
        step=prompt.step,
        version=prompt.version,
        is_active=prompt.is_active,
        author=prompt.author,
        note=prompt.note,
        created_at=prompt.created_at.isoformat(),
        used_at=prompt.used_at.isoformat() if prompt.used_at else None,
        replaced_at=prompt.replaced_at.isoformat() if prompt.replaced_at else None,
        usage=_usage(usage.get(prompt.pk, UNUSED)),
    )


def _usage(usage: VersionUsage) -> UsageDocument:
    rate = usage.failure_rate
    return UsageDocument(
        used=usage.used,
        completed=usage.completed,
        failed=usage.failed,
        failure_rate=None if rate is None else round(rate, 4),
        mean_input_tokens=usage.mean_input_tokens,
        mean_output_tokens=usage.mean_output_tokens,
        mean_cost=None if usage.mean_cost is None else float(usage.mean_cost),
        unpriced=usage.unpriced,
    )
