"""Runs as backups and restores of tenants see them (`tenants.contents`)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from django.db import transaction
from django.db.models import F, Value
from django.db.models.functions import Concat, Now, Substr

from audit.services import record
from runs.messages import drop_wake_ups
from runs.models import WORKING, Artifact, Run, RunStatus, Step, StepStatus
from runs.services.claim import FENCE
from tenants.contents import FileRef


def _may_wait(run: str, status: str, replaced: Mapping[str, str] | None) -> bool:
    """Tell whether a run still waits for its first worker: in the state that is replaced as well, where it is there."""
    if status != RunStatus.PENDING or replaced is None:
        return False
    return replaced.get(run, RunStatus.PENDING) == RunStatus.PENDING


class RunContents:
    def files(self, alias: str) -> Iterator[FileRef]:
        artifacts = Artifact.objects.using(alias).order_by("pk").values_list("file_path", "digest", "metadata")
        for path, digest, metadata in artifacts.iterator():
            yield FileRef(path, digest, (metadata or {}).get("size_bytes"))
        outputs = Step.objects.using(alias).exclude(output_path=None).order_by("pk")
        for output, sha256, metrics in outputs.values_list("output_path", "output_digest", "metrics").iterator():
            yield FileRef(str(output), sha256, (metrics or {}).get("size_bytes"))

    def runs(self, alias: str) -> dict[str, str]:
        return {str(pk): status for pk, status in Run.objects.using(alias).values_list("pk", "status").iterator()}

    def settle(self, alias: str, *, reason: str, number: int, replaced: Mapping[str, str] | None) -> list[str]:
        """Fail what was at work, and what waited here but went on there; give every unfinished step a new token.

        A worker that claimed a step in another database of the tenant's may hold the very token that the next one here
        would get.
        """
        with transaction.atomic(using=alias):
            tokens = F("lease_token") % FENCE + number * FENCE
            Step.objects.using(alias).exclude(status=StepStatus.COMPLETED).update(lease_token=tokens)
            unfinished = Run.objects.using(alias).filter(status__in=WORKING).values_list("pk", "current_step", "status")
            ended = [(pk, step) for pk, step, status in unfinished if not _may_wait(str(pk), status, replaced)]
            ids = [pk for pk, _step in ended]
            Run.objects.using(alias).filter(pk__in=ids).update(status=RunStatus.FAILED)
            for pk, step in ended:
                Step.objects.using(alias).filter(run_id=pk, step=step).exclude(status=StepStatus.COMPLETED).update(
                    status=StepStatus.FAILED, error_message=reason, lease_expires_at=None, lease_owner=None
                )
                record(
                    using=alias,
                    action="run.fail",
                    resource_type="run",
                    resource_id=str(pk),
                    details={"step": step, "reason": "restore"},
                )
        return [str(pk) for pk in ids]

    def move(self, alias: str, old_prefix: str, new_prefix: str) -> None:
        rest = len(old_prefix) + 1
        for model, column in ((Artifact, "file_path"), (Step, "output_path")):
            moved = model.objects.using(alias).filter(**{f"{column}__startswith": old_prefix})
            moved.update(**{column: Concat(Value(new_prefix), Substr(column, rest))})

    def at_work(self, alias: str) -> list[str]:
        leased = Step.objects.using(alias).filter(status=StepStatus.RUNNING, lease_expires_at__gt=Now())
        return sorted({str(pk) for pk in leased.values_list("run_id", flat=True)})

    def drop_messages(self, tenant_id: str, runs: Collection[str]) -> int | None:
        return drop_wake_ups(tenant_id, keep=runs)
