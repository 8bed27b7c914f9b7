"""The hooks through which backups, restores and deletions handle a tenant's runs (`tenants.app_hooks`)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import LiteralString

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Model, Sum, Value
from django.db.models.functions import Concat, Now, Substr

from audit.log.entries import record
from audit.log.safe_search_path import catalog_only
from config.base.databases import CONTROL
from runs import turns
from runs.costs.reconcile import costs_rebuild
from runs.messages.sending import count_messages, drop_wake_ups, erase_messages
from runs.models import WORKING, Artifact, Run, RunStatus, Step, StepStatus
from runs.steps.claim import FENCE
from runs.storage import is_path_of
from runs.summaries.models import DailyCost, RunSummary
from runs.summaries.reconcile import tenant_rebuild
from tenants.app_hooks import FileRef, ForeignPath, RunDifferences


def _may_wait(run: str, status: str, replaced: Mapping[str, str] | None) -> bool:
    """Return whether a run is still waiting for its first worker, in the replaced database too if it exists there.

    If `replaced` is None, no run counts as waiting.
    """
    if status != RunStatus.PENDING or replaced is None:
        return False
    return replaced.get(run, RunStatus.PENDING) == RunStatus.PENDING


# For each prefix of three hexadecimal digits: the number of runs, and a checksum over their ids and statuses.
SUMS = """
SELECT left(id::text, 3), count(*), sum(hashtextextended(concat(id, status), 0)::numeric)
  FROM public.runs GROUP BY 1
"""
BEGINNING = "SELECT id::text, status FROM public.runs WHERE left(id::text, 3) = ANY(%s)"


# Every column that names a file.
PATHS: tuple[tuple[str, LiteralString], ...] = (
    ("artifacts", "SELECT id, file_path FROM public.artifacts"),
    ("steps", "SELECT id, output_path FROM public.steps WHERE output_path IS NOT NULL"),
)
BATCH = 2000
# The control database's tables about a tenant's runs and calls.
SUMMARIES: tuple[type[Model], ...] = (RunSummary, DailyCost)


class RunContents:
    def files(self, alias: str) -> Iterator[FileRef]:
        artifacts = Artifact.objects.using(alias).order_by("pk").values_list("file_path", "digest", "metadata")
        for path, digest, metadata in artifacts.iterator():
            yield FileRef(path, digest, _size_bytes(metadata))
        outputs = Step.objects.using(alias).exclude(output_path=None).order_by("pk")
        for output, sha256, metrics in outputs.values_list("output_path", "output_digest", "metrics").iterator():
            yield FileRef(str(output), sha256, _size_bytes(metrics))

    def foreign_path(self, connection: BaseDatabaseWrapper, tenant_id: str) -> ForeignPath | None:
        for table, query in PATHS:
            with catalog_only(connection), connection.chunked_cursor() as cursor:
                cursor.execute(query)
                while rows := cursor.fetchmany(BATCH):
                    for pk, path in rows:
                        if not is_path_of(tenant_id, path):
                            return ForeignPath(table, str(pk), path)
        return None

    def waiting(self, alias: str) -> list[str]:
        return list(map(str, Run.objects.using(alias).filter(status=RunStatus.PENDING).values_list("pk", flat=True)))

    def statuses(self, alias: str, runs: Collection[str]) -> dict[str, str]:
        found = Run.objects.using(alias).filter(pk__in=runs).values_list("pk", "status")
        return {str(pk): status for pk, status in found}

    def unended(self, alias: str) -> list[str]:
        # A failed run can be retried at any time. It then adopts the files of its interrupted attempts.
        found = Run.objects.using(alias).exclude(status=RunStatus.COMPLETED)
        return list(map(str, found.values_list("pk", flat=True)))

    def compare(self, alias: str, replaced_alias: str) -> RunDifferences:
        """Return how the runs of two databases differ.

        The databases cannot be joined and may hold a million runs each, of which few differ. So each one computes a
        checksum of its runs by id prefix, and only the runs of prefixes with different checksums are fetched.
        """
        sums = [_sums(one) for one in (alias, replaced_alias)]
        unequal = [beginning for beginning in sums[0].keys() | sums[1].keys() if _differ(beginning, *sums)]
        here, there = (_beginning(one, unequal) for one in (alias, replaced_alias))
        return RunDifferences(
            lost=sorted(there.keys() - here.keys()),
            returned=sorted(here.keys() - there.keys()),
            changed=sorted(run for run in here.keys() & there.keys() if here[run] != there[run]),
        )

    def settle(self, alias: str, *, reason: str, number: int, replaced: Mapping[str, str] | None) -> list[str]:
        """Fail runs that may have been worked on elsewhere, give steps new tokens, and return the failed runs' ids.

        Every running run fails. A pending run fails too, unless `replaced` is given and either lists it as pending or
        does not contain it. The steps of all runs that are not completed get new tokens. Without them, a worker that
        claimed a step in the tenant's other database could hold the same token as the next claim here. Completed steps
        get one too: until its run is completed, a step may be run again.
        """
        with transaction.atomic(using=alias):
            tokens = F("lease_token") % FENCE + number * FENCE
            unfinished_runs = Run.objects.using(alias).exclude(status=RunStatus.COMPLETED)
            Step.objects.using(alias).filter(run__in=unfinished_runs).update(lease_token=tokens)
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

    def summarize(self, tenant_id: str, alias: str) -> None:
        tenant_rebuild(alias=alias, tenant_id=tenant_id)
        costs_rebuild(alias=alias, tenant_id=tenant_id)

    def erase_summaries(self, tenant_id: str) -> int:
        return sum(model._base_manager.using(CONTROL).filter(tenant_id=tenant_id).delete()[0] for model in SUMMARIES)

    def spent_this_month(self, tenant_id: str) -> Decimal | None:
        first = datetime.now(UTC).date().replace(day=1)
        days = DailyCost.objects.using(CONTROL).filter(tenant_id=tenant_id, day__gte=first)
        found: Decimal | None = days.aggregate(total=Sum("cost_usd"))["total"]
        return found

    def count_summaries(self, tenant_id: str) -> int:
        return sum(model._base_manager.using(CONTROL).filter(tenant_id=tenant_id).count() for model in SUMMARIES)

    def control_tables(self) -> Collection[str]:
        return tuple(model._meta.db_table for model in SUMMARIES)

    def drop_messages(self, tenant_id: str, alias: str) -> int | None:
        return drop_wake_ups(tenant_id, exist=lambda runs: self.statuses(alias, runs).keys())

    def erase_messages(self, tenant_id: str) -> int | None:
        """Remove the tenant's messages from the broker and its steps from the cache server; return their number.

        Returns None if the broker cannot list its messages; those then remain. Raises `BrokerUnavailable` or
        `CacheUnavailable`.
        """
        messages = erase_messages(tenant_id)
        return _sum(messages, turns.erase(tenant_id))

    def count_messages(self, tenant_id: str) -> int | None:
        return _sum(count_messages(tenant_id), turns.count(tenant_id))


def _sum(messages: int | None, steps: int) -> int | None:
    """Return the sum; None if the number of messages is unknown because the broker does not list them."""
    return None if messages is None else messages + steps


def _size_bytes(document: object) -> int | None:
    """Return the file size that a step or artifact recorded; None if the JSON holds no integer size."""
    size = document.get("size_bytes") if isinstance(document, dict) else None
    return size if isinstance(size, int) and not isinstance(size, bool) else None


def _sums(alias: str) -> dict[str, tuple[object, ...]]:
    with catalog_only(connections[alias]), connections[alias].cursor() as cursor:
        cursor.execute(SUMS)
        return {beginning: (count, total) for beginning, count, total in cursor.fetchall()}


def _differ(beginning: str, here: dict[str, tuple[object, ...]], there: dict[str, tuple[object, ...]]) -> bool:
    return here.get(beginning) != there.get(beginning)


def _beginning(alias: str, beginnings: list[str]) -> dict[str, str]:
    with catalog_only(connections[alias]), connections[alias].cursor() as cursor:
        cursor.execute(BEGINNING, [beginnings])
        return dict(cursor.fetchall())
