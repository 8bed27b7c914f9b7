"""What a copy of prompts would change: the versions to copy, the tenants' own, and where they differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.db.models import Max
from django.db.utils import Error
from django.utils.translation import gettext as _

from prompts.content import check_agreement
from prompts.diff import Versioned, is_same
from prompts.documents import READABLE
from prompts.errors import InvalidPrompt
from prompts.fleet.types import Source
from prompts.models import Prompt
from prompts.selectors import active_prompts, prompt_get, prompt_versions
from tenants.errors import MigrationFailed
from tenants.fleet.batch import CHANGEABLE
from tenants.fleet.batch_jobs import Phases
from tenants.fleet.check import check_tenants
from tenants.models import Tenant
from tenants.parallel import in_parallel
from tenants.routing.context import tenant_context
from tenants.routing.owner_connection import owner_connection
from tenants.schema.inspection import Look, unusable
from tenants.schema.releases import release
from tenants.selectors import tenant_get, tenants_existing

# The note of copies of versions that have none.
NOTE = "Copied from another tenant."
# {step: its active version} of one tenant.
Active = Mapping[str, Prompt]


@dataclass(frozen=True)
class Compared:
    """One tenant's active and newest versions of the steps to copy."""

    look: Look
    active: Active
    # {step: its newest version}, which need not be active.
    newest: Mapping[str, int]

    def changing(self, sources: Sequence[Source]) -> list[Source]:
        """Return the versions whose step has a different active version in the tenant, or none."""
        return [one for one in sources if one.step not in self.active or not is_same(self.active[one.step], one)]


def named(tenant_ids: Sequence[str] | None) -> list[str] | None:
    """Return each id once, in order, since a tenant that is named twice is changed once. None means all tenants."""
    return None if tenant_ids is None else list(dict.fromkeys(tenant_ids))


def are_all(tenants: Sequence[Tenant], from_tenant_id: str) -> bool:
    """Return whether these are all the tenants that a copy from this source could change now."""
    changeable = tenants_existing().filter(status__in=CHANGEABLE)
    return not changeable.exclude(pk__in=[from_tenant_id, *(tenant.pk for tenant in tenants)]).exists()


def digest_of(version: Versioned) -> str:
    """Return the sha256 of a version's template and variables."""
    text = json.dumps([version.content, version.variables or []], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def digests_of(sources: Sequence[Source]) -> list[dict[str, object]]:
    """Return {"step", "version", "sha256"} of each version; the digest is needed because a draft may still change."""
    return [{"step": one.step, "version": one.version, "sha256": digest_of(one)} for one in sources]


def sources_of(tenant_id: str, steps: Sequence[str], version: int | None) -> list[Source]:
    """Return the versions to copy: the active ones of `steps` (empty: of all steps), or `version` of a single step.

    Raises `UnknownTenant` or `TenantNotActive`, `UnknownPrompt` if a version does not exist, `InvalidPrompt` if
    `version` is given without exactly one step or if the tenant has no active prompts, or what `check_agreement` raises
    for a version that cannot be used.
    """
    if version is not None and len(set(steps)) != 1:
        raise InvalidPrompt(
            _("Each step has its own versions: to copy a specific version, pass exactly one step."),
            code="prompt_copy_ambiguous",
        )
    with tenant_context(tenant_get(tenant_id), statuses=READABLE) as alias:
        if steps:
            prompts = [prompt_get(alias=alias, step=step, version=version) for step in dict.fromkeys(steps)]
        else:
            prompts = list(prompt_versions(alias=alias).filter(is_active=True))
        if not prompts:
            raise InvalidPrompt(
                _("Tenant %(id)s has no active prompts, so there is nothing to copy.") % {"id": tenant_id},
                code="prompt_copy_empty",
            )
        for prompt in prompts:
            check_agreement(prompt)
    return [
        Source(prompt.step, prompt.version, prompt.content, prompt.variables or [], prompt.note or NOTE)
        for prompt in prompts
    ]


def versions_text(active: Active, steps: Sequence[str]) -> str:
    return ", ".join(f"{step} v{active[step].version}" for step in steps if step in active)


def looks_for_change(phases: Phases, tenants: Sequence[Tenant], *, work: str, workers: int) -> list[Look]:
    """Inspect the tenants, and return the results; record as problems what prevents a change.

    Raises `ServerError` as `look_at` does.
    """
    code = release()
    with phases.phase("check", len(tenants)) as one_more:
        groups, problems = check_tenants(tenants, code=code, work=work, workers=workers, on_look=one_more)
        looks = [look for one in groups for look in one.looks]
        behind = [look for look in looks if not code.is_complete(look.history)]
        reason = _(
            "It has migrations to apply; first migrate all tenants, with"
            " `seo-gen tenant migrate --all` or in the admin."
        )
        phases.problems += [*problems, *(str(MigrationFailed(look.tenant.id, reason)) for look in behind)]
    return sorted(looks, key=lambda look: look.tenant.id)


def compare(
    phases: Phases, looks: Sequence[Look], sources: Sequence[Source], *, work: str, workers: int
) -> list[Compared]:
    """Return each tenant's active and newest versions; record a problem for each database that cannot be read."""
    steps = [source.step for source in sources]

    def read(look: Look) -> Compared:
        with owner_connection(look.server, look.database, work) as connection:
            return Compared(look, active_prompts(alias=connection.alias, steps=steps), _newest(connection.alias, steps))

    found = []
    with phases.phase("compare", len(looks)) as one_more:
        for look, outcome in in_parallel(read, looks, workers):
            if isinstance(outcome, Error):
                phases.problems.append(str(unusable(look.tenant.id, outcome)))
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                found.append(outcome)
            one_more(look.tenant.id)
    return sorted(found, key=lambda one: one.look.tenant.id)


def _newest(alias: str, steps: Sequence[str]) -> dict[str, int]:
    versions = Prompt.objects.using(alias).filter(step__in=steps).order_by()
    return dict(versions.values_list("step").annotate(newest=Max("version")))
