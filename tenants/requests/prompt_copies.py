"""The requests that follow each other when staff copy prompts: a preview, the copy that it leads to, and its undo.

The arguments of a copy and of an undo come from the preceding request, never from a form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import Q, QuerySet

from config.base.databases import CONTROL
from tenants.fleet.batch import copy_approval
from tenants.models import (
    ABOUT_SEVERAL,
    BatchStatus,
    MigrationBatch,
    OperationRequest,
    RequestKind,
    RequestStatus,
    Tenant,
)
from tenants.selectors import tenants_existing


def preview_arguments(
    *, steps: Sequence[str], version: int | None, tenants: Sequence[str] | None, text: str
) -> dict[str, Any]:
    """Return the arguments of a preview of a copy of `version` or, if that is None, of the steps' active versions.

    `steps` is empty for all steps; `tenants` is None for all tenants; `text` describes the chosen versions for display.
    """
    chosen = {"steps": list(steps), "version": version, "text": text}
    return {**chosen, "tenants": None if tenants is None else sorted(tenants), "dry_run": True, "to_all": None}


def copy_arguments(preview: OperationRequest) -> dict[str, Any]:
    """Return the arguments of the copy that does what the preview showed.

    "to_all" is what a second person must approve if the settings demand that; None if a tenant is left out.
    """
    result = preview.result or {}
    found = {"preview": result["batch"], "prompts": result["prompts"]}
    to_all = copy_approval(source=preview.tenant_id, **found) if result["to_all"] else None
    return {**preview.arguments, "dry_run": False, **found, "to_all": to_all}


def undo_arguments(copy: OperationRequest) -> dict[str, Any]:
    """Return the arguments of the undo of a copy: its batch, and the tenants that it changed and that still exist."""
    batch = (copy.result or {})["batch"]
    changed = MigrationBatch.objects.using(CONTROL).get(pk=batch).tenants.values("tenant_id")
    ids = tenants_existing().filter(pk__in=changed).values_list("pk", flat=True)
    return {"batch": batch, "tenants": sorted(ids), "text": copy.arguments["text"]}


def all_visible(visible: QuerySet[Tenant]) -> Q:
    """Return a filter that leaves out copies of prompts, and their undos, that change any tenant other than these.

    The arguments and errors of such a request may contain the ids of all tenants that it changes. Copies to all tenants
    are always left out. Requests of other kinds all match.
    """
    ids = list(visible.values_list("pk", flat=True))
    return ~Q(kind__in=ABOUT_SEVERAL) | Q(arguments__tenants__contained_by=ids)


def preview_of(batch_id: str) -> OperationRequest | None:
    """Return the request whose preview is recorded as this batch, or None."""
    return _done().filter(arguments__dry_run=True, result__batch=batch_id).first()


def copy_made_from(preview: OperationRequest) -> OperationRequest | None:
    """Return the request of the copy that has already been made from a preview, or None."""
    made = _done().filter(arguments__preview=(preview.result or {})["batch"])
    return made.filter(tenant_id=preview.tenant_id).first()


def is_undone(copy: OperationRequest) -> bool:
    """Return whether the copy has been undone, by a request or by a command."""
    undos = MigrationBatch.objects.using(CONTROL).filter(undoes=(copy.result or {})["batch"])
    return undos.filter(status=BatchStatus.COMPLETED).exists()


def _done() -> QuerySet[OperationRequest]:
    rows = OperationRequest.objects.using(CONTROL)
    return rows.filter(kind=RequestKind.PROMPT_COPY, status=RequestStatus.DONE)
