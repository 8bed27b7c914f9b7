"""Carry out the copies of prompts, their previews and their undos that staff requested (`tenants.requests`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from prompts.fleet.copy import prompt_copy
from prompts.fleet.preview import prompt_copy_preview
from prompts.fleet.types import CopyReport, Previewed
from prompts.fleet.undo import prompt_copy_undo
from tenants.app_hooks import OnStep
from tenants.requests.errors import PromptsNotCopied
from tenants.types import BatchProgress, OnBatchProgress


def copy_requested(*, tenant_id: str, arguments: Mapping[str, Any], on_step: OnStep) -> dict[str, Any]:
    """Preview a copy, or carry out one that was previewed; return the result for the request.

    `tenants.requests.prompt_copies` makes the arguments. Raises `PromptsNotCopied` if there are problems, or what
    `prompt_copy_preview` or `prompt_copy` raises.
    """
    chosen = {
        "from_tenant_id": tenant_id,
        "tenant_ids": arguments["tenants"],
        "steps": arguments["steps"],
        "version": arguments["version"],
        "on_progress": _listener(on_step),
    }
    if not arguments["dry_run"]:
        return _result(prompt_copy(**chosen, previewed=Previewed(arguments["preview"], arguments["prompts"])))
    found = prompt_copy_preview(**chosen)
    if found.problems:
        raise PromptsNotCopied("\n".join(found.problems))
    counts = {"tenants": found.tenant_count, "changed": found.pending_count}
    return {"batch": str(found.batch_id), **counts, "prompts": found.prompts, "to_all": found.to_all}


def undo_requested(*, tenant_id: str, arguments: Mapping[str, Any], on_step: OnStep) -> dict[str, Any]:
    return _result(prompt_copy_undo(batch_id=arguments["batch"], on_progress=_listener(on_step)))


def _result(report: CopyReport) -> dict[str, Any]:
    if report.outcome == "unfinished":
        raise PromptsNotCopied("\n".join(report.problems), code="prompt_copy_unfinished")
    if report.outcome == "rolled_back":
        raise PromptsNotCopied("\n".join([_("No tenant was changed."), *report.problems]))
    if report.problems:
        first = ngettext("This tenant was not changed:", "These tenants were not changed:", len(report.problems))
        raise PromptsNotCopied("\n".join([first, *report.problems]), code="tenants_not_changed")
    return {"batch": str(report.batch_id), "tenants": report.tenant_count, "changed": report.pending_count}


def _listener(on_step: OnStep) -> OnBatchProgress:
    def listen(progress: BatchProgress) -> None:
        if progress.phase != "end":
            # A migration has a phase of this name too, in which it compares schemas.
            step = "compare versions" if progress.phase == "compare" else progress.phase
            on_step(step, progress.done, progress.total)

    return listen
