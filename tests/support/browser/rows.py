"""Rows for every page: a tenant with a run in each state, and what a few busy weeks leave in the control database.

At the end, `filled_pages` removes the rows in `Made` from the control database. Costs, run summaries and what is in the
tenant's own database stay.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tests.support.browser.pages import Known

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.db.models import Model

    from runs.models import Run
    from tenants.models import Erasure, Tenant

STEPS = ("keyword_analysis", "outline", "draft", "final")
ARTICLE = """# 緑茶の健康効果

緑茶には**カテキン**が含まれています。詳しくは[公式サイト](https://tea.example/)を見てください。

## 主な効果

- 抗酸化作用
- 集中力を高める

| 成分 | 量 |
|---|---|
| カテキン | 70 mg |
"""
# Errors are stored in the language of the person or worker. On a Japanese page, only what the page says can be English.
ERRORS = {
    "ja": {
        "provider": "プロバイダー claude が要求を拒否しました: 400",
        "budget": "予算に達しました。",
        "space": "空き容量がありません。",
        "runs": "テナントには進行中の実行があります。",
        "connection": "サーバーとの接続が切れました。",
    },
    "en": {
        "provider": "Provider claude refused the request: 400",
        "budget": "The budget is reached.",
        "space": "There is no space left.",
        "runs": "The tenant has runs in progress.",
        "connection": "The connection to the server was lost.",
    },
}
DAYS = 24


@dataclass
class Made:
    """The rows of the control database that `filled_pages` removes at the end."""

    rows: list[Model]
    # The errors that the rows hold.
    errors: dict[str, str]
    erasure: Erasure | None = None


@contextmanager
def filled_pages(tenant: Tenant, user: User, *, erases: bool = True, language: str = "ja") -> Iterator[Known]:
    """Fill both databases; yield the ids of the rows. With `erases`, also create another tenant and erase it.

    `language` is that of the errors in the rows.
    """
    made = Made([], ERRORS[language])
    try:
        ids = {
            "tenant": tenant.pk,
            "user": str(user.pk),
            **_tenant_rows(tenant, made),
            **_control_rows(tenant, user, made),
        }
        if erases:
            ids |= _erased(made)
        yield Known(ids)
    finally:
        for row in reversed(made.rows):
            type(row)._default_manager.filter(pk=row.pk).delete()
        if made.erasure is not None:
            from tests.tenants.support.erased import forget_erasure

            forget_erasure(made.erasure)


# -- the tenant's database -----------------------------------------------------------------------------------------


def _tenant_rows(tenant: Tenant, made: Made) -> dict[str, str]:
    from audit.log.actor import acting_as
    from prompts.models import Prompt
    from runs.models import Artifact, PauseCause, Run, RunStatus, Step, StepOverride, StepStatus
    from runs.services.cancel import run_cancel
    from runs.services.pause import run_pause
    from runs.services.retry import run_retry
    from runs.summaries.models import RunSummary
    from tenants.routing.context import tenant_context
    from tests.runs.services.states import claim, complete_by_hand
    from tests.support.staff import run_in_review

    waiting = _run(tenant, "緑茶 淹れ方")
    running = _run(tenant, "抹茶 効能")
    complete_by_hand(tenant, running, STEPS[0])
    assert claim(tenant, running, STEPS[1])
    failed = _run(tenant, "烏龍茶 カフェイン")
    complete_by_hand(tenant, failed, STEPS[0])
    paused = _run(tenant, "紅茶 種類")
    broke = _run(tenant, "麦茶 作り方")
    with acting_as("staff:hanako"):
        for run in (paused, broke):
            run_pause(tenant_id=tenant.pk, run_id=run.pk)
    review = run_in_review(tenant)
    completed = _run(tenant, "緑茶 健康効果")
    for step in STEPS[:3]:
        complete_by_hand(tenant, completed, step, ARTICLE)
    run_cancel(tenant_id=tenant.pk, run_id=completed.pk)
    # The output that it replaces is kept, to be compared.
    run_retry(tenant_id=tenant.pk, run_id=completed.pk, from_step=STEPS[2])
    for step in STEPS[2:]:
        complete_by_hand(tenant, completed, step, ARTICLE.replace("70 mg", "80 mg") + "\n新しい段落です。\n")
    series = _series(tenant)
    with tenant_context(tenant) as alias:
        steps = Step.objects.using(alias)
        steps.filter(run=failed, step=STEPS[1]).update(
            status=StepStatus.FAILED, error_message=made.errors["provider"], retry_count=3, started_at=_ago(minutes=9)
        )
        Run.objects.using(alias).filter(pk=failed.pk).update(status=RunStatus.FAILED, current_step=STEPS[1])
        for rows in (Run.objects.using(alias).filter(pk=broke.pk), RunSummary.objects.filter(run_id=broke.pk)):
            rows.update(pause_cause=PauseCause.BUDGET)
        steps.filter(run=broke, step=STEPS[0]).update(error_message=made.errors["budget"])
        override, _made = StepOverride.objects.using(alias).get_or_create(
            step=STEPS[2], defaults={"output_limit": 4096}
        )
        active = Prompt.objects.using(alias).get(step=STEPS[1], is_active=True)
        content = {"content": active.content + "\nMind the keyword.\n", "variables": active.variables}
        draft, _made = Prompt.objects.using(alias).get_or_create(
            step=STEPS[1], version=active.version + 1, defaults={"is_active": False, **content}
        )
        artifacts = Artifact.objects.using(alias).filter(run=completed)
        artifact = artifacts.order_by("pk").last()
        drafts = list(artifacts.filter(step=STEPS[2], file_path__endswith=".md").order_by("pk"))
        last = steps.get(run=completed, step=STEPS[-1])
        failed_step = steps.get(run=failed, step=STEPS[1])
        assert artifact is not None
    return {
        "run": str(completed.pk),
        "waiting_run": str(waiting.pk),
        "running_run": str(running.pk),
        "failed_run": str(failed.pk),
        "paused_run": str(paused.pk),
        "broke_run": str(broke.pk),
        "review_run": str(review.pk),
        "series": series,
        "step": str(last.pk),
        "failed_step": str(failed_step.pk),
        "artifact": str(artifact.pk),
        "old_text": f"a{drafts[0].pk}",
        "new_text": f"a{drafts[-1].pk}",
        "override": str(override.pk),
        "prompt": str(active.pk),
        "draft": str(draft.pk),
    }


def _run(tenant: Tenant, keyword: str) -> Run:
    from runs.services.create import run_create

    return run_create(tenant_id=tenant.pk, config={"keyword": keyword, "language": "ja"})


def _series(tenant: Tenant) -> str:
    from runs.config import config_from_document
    from runs.series.rows import ListedRow
    from runs.series.start import series_start

    keywords = ("ほうじ茶 効能", "玄米茶 カロリー")
    rows = [
        ListedRow(line, config_from_document({"keyword": keyword, "language": "ja"}))
        for line, keyword in enumerate(keywords, 1)
    ]
    return series_start(tenant_id=tenant.pk, series_id=str(uuid4()), rows=rows, hold=True).series_id


# -- the control database ------------------------------------------------------------------------------------------


def _control_rows(tenant: Tenant, user: User, made: Made) -> dict[str, str]:
    other = _colleague(tenant, made)
    _costs(tenant, made)
    return {
        "colleague": str(other.pk),
        "operator": str(_operator(tenant, made).pk),
        **_backups(tenant, made),
        **_operations(tenant, user, made),
        **_approvals(tenant, user, other, made),
        **_access(tenant, user, other, made),
        **_batches(tenant, made),
        **_model(made),
    }


def _colleague(tenant: Tenant, made: Made) -> User:
    """Create a member of staff with a role of each scope and a session, and a lock on a name after failed logins."""
    from django.contrib.auth.models import User
    from django.utils import timezone

    from config.site.sign_in.models import FailedLogins, StaffSession
    from tenants.models import Role, RoleAssignment, RoleScope, TenantGroup

    name = f"hanako-{tenant.pk}"
    User.objects.filter(username=name).delete()
    other = User.objects.create_user(name, email="hanako@example.com", is_staff=True)
    group = TenantGroup.objects.create(name=f"東京チーム {uuid4().hex[:6]}")
    group.tenants.add(tenant)
    now = timezone.now()
    locked = FailedLogins.objects.create(
        name_digest=uuid4().hex, address="192.0.2.7", failures=7, since=now, locked_until=now + timedelta(minutes=5)
    )
    made.rows += [group, other, locked]
    RoleAssignment.objects.create(user=other, role=Role.VIEWER, scope=RoleScope.ALL)
    RoleAssignment.objects.create(user=other, role=Role.EDITOR, scope=RoleScope.GROUP, group=group)
    RoleAssignment.objects.create(user=other, role=Role.OPERATOR, scope=RoleScope.TENANT, tenant=tenant)
    StaffSession.objects.create(user=other, opened_at=now, seen_at=now, address="192.0.2.7", browser="Firefox/140.0")
    return other


def _operator(tenant: Tenant, made: Made) -> User:
    """Create a member of staff who sees one tenant only, and has a second factor."""
    from django.contrib.auth.models import User

    from tenants.models import Role, RoleAssignment, RoleScope
    from tests.config.site.sign_in.logging_in import enrol

    name = f"taro-{tenant.pk}"
    User.objects.filter(username=name).delete()
    user = User.objects.create_user(name, is_staff=True)
    made.rows.append(user)
    RoleAssignment.objects.create(user=user, role=Role.OPERATOR, scope=RoleScope.TENANT, tenant=tenant)
    enrol(user)
    return user


def _costs(tenant: Tenant, made: Made) -> None:
    from runs.summaries.models import DailyCost, RunSummary

    today = datetime.datetime.now(datetime.UTC).date()
    DailyCost.objects.filter(tenant=tenant).delete()
    DailyCost.objects.bulk_create(
        DailyCost(
            tenant=tenant,
            day=today - timedelta(days=day),
            step=step,
            provider="claude",
            model="claude-model",
            calls=3 + day % 4,
            unknown_calls=0,
            unpriced_calls=0,
            token_usage={"input": 12000 + 900 * day, "output": 3400},
            cost_usd=Decimal(day % 7 + number) / 8,
        )
        for day in range(DAYS)
        for number, step in enumerate(STEPS, 1)
    )
    _spending(tenant)
    for status, more in (
        ("failed", {"error": made.errors["provider"], "error_step": "outline"}),
        ("paused", {"pause_cause": "review"}),
    ):
        summary = {"is_truncated": False, "created_at": _ago(hours=2), "updated_at": _ago(hours=1), **more}
        RunSummary.objects.create(tenant=tenant, run_id=uuid4(), status=status, current_step="outline", **summary)


def _spending(tenant: Tenant) -> None:
    """Make the tenant's own monthly sums agree with its daily costs."""
    from django.db.models import Sum
    from django.db.models.functions import TruncMonth

    from runs.models import Spending
    from runs.summaries.models import DailyCost
    from tenants.routing.context import tenant_context

    months = DailyCost.objects.filter(tenant=tenant).order_by().annotate(month=TruncMonth("day"))
    spent = list(months.values_list("month").annotate(Sum("cost_usd")))
    with tenant_context(tenant) as alias:
        for month, usd in spent:
            Spending.objects.using(alias).update_or_create(month=month, defaults={"spent_usd": usd})


def _backups(tenant: Tenant, made: Made) -> dict[str, str]:
    from django.conf import settings

    from tenants.models import (
        Backup,
        BackupKind,
        BackupStatus,
        BaseBackup,
        OperationStatus,
        Restore,
        RestorePhase,
        TenantOperation,
    )
    from tests.tenants.support.created import new_id

    place = str(Path(settings.BACKUP_OUTPUT).absolute())
    common = {"tenant_id": tenant.pk, "identity": tenant.identity, "user_id": "staff:hanako", "size_bytes": 23_456_789}
    common |= {"schema_version": tenant.schema_version, "started_at": _ago(hours=5), "finished_at": _ago(hours=4)}
    mark = new_id()
    backup = Backup.objects.create(
        place=place,
        name=f"{tenant.pk}-{mark}.dump",
        format="custom",
        status=BackupStatus.COMPLETED,
        manifest={"rows": {"runs": 9, "steps": 36}, "sha256": "0" * 64},
        verified_at=_ago(hours=1),
        **common,
    )
    failed = Backup.objects.create(
        place=place,
        name=f"{tenant.pk}-{mark}-2.dump",
        format="custom",
        status=BackupStatus.FAILED,
        error=made.errors["space"],
        **common,
    )
    export = Backup.objects.create(
        place=str(Path(settings.EXPORT_OUTPUT).absolute()),
        name=f"{tenant.pk}-{mark}.bundle",
        kind=BackupKind.EXPORT,
        format="bundle",
        status=BackupStatus.COMPLETED,
        **common,
    )
    done = TenantOperation.objects.create(
        tenant_id=tenant.pk,
        kind="restore",
        status=OperationStatus.COMPLETED,
        user_id="staff:hanako",
        started_at=_ago(minutes=2),
        finished_at=_ago(minutes=1),
    )
    restore = Restore.objects.create(
        operation=done,
        tenant_id=tenant.pk,
        phase=RestorePhase.DONE,
        source=f"{place}/{backup.name}",
        kept=f"{tenant.pk}_replaced",
        kept_until=_ago(hours=-24),
        report={"unavailable_ms": 240, "lost_runs": [str(uuid4())], "failed_runs": [], "missing_files": []},
    )
    made.rows += [backup, failed, export, done]
    ids = {"backup": backup, "failed_backup": failed, "export": export, "restore": restore}
    if tenant.server is not None:
        base = BaseBackup.objects.create(
            server=tenant.server,
            status=BackupStatus.COMPLETED,
            place=place,
            name=f"base-{mark}",
            server_version=18,
            timeline=1,
            system_identifier="7300000000000000000",
            start_lsn="0/3000028",
            stop_lsn="0/3000158",
            size_bytes=41_000_000,
            user_id="system",
            started_at=_ago(minutes=9),
            finished_at=_ago(minutes=3),
        )
        made.rows.append(base)
        ids["base_backup"] = base
    return {name: str(row.pk) for name, row in ids.items()}


def _operations(tenant: Tenant, user: User, made: Made) -> dict[str, str]:
    from tenants.models import OperationRequest, RequestKind, RequestStatus

    def operation(kind: RequestKind, status: RequestStatus, **more: Any) -> OperationRequest:
        given = {
            "requested_by": f"staff:{user.username}",
            "requester_id": user.pk,
            "reason": "月次の確認のため",
            "requested_at": _ago(minutes=3),
            # No worker of another test takes it.
            "due_at": _ago(hours=-24),
            **more,
        }
        row = OperationRequest.objects.create(kind=kind, status=status, tenant_id=tenant.pk, **given)
        made.rows.append(row)
        return row

    source = {"backup": None, "to_time": None, "stop_runs": False}
    over = {"started_at": _ago(seconds=75), "finished_at": _ago(seconds=2)}
    timing = {"load": 1.5, "verify": 0.4, "migrate": 0.1}
    rows = {
        "waiting_operation": operation(RequestKind.BACKUP, RequestStatus.REQUESTED, arguments={"with_storage": True}),
        "running_operation": operation(
            RequestKind.RESTORE,
            RequestStatus.RUNNING,
            arguments=source,
            step="load",
            done=2,
            total=11,
            started_at=_ago(seconds=12),
            lease_until=_ago(hours=-24),
        ),
        "done_operation": operation(
            RequestKind.DRILL, RequestStatus.DONE, arguments=source, result={"rows": 91, "timing_s": timing}, **over
        ),
        "failed_operation": operation(
            RequestKind.EXPORT,
            RequestStatus.FAILED,
            arguments={"output": "/exports/a.bundle", "recipient": None},
            error=made.errors["space"],
            error_code="storage_error",
            **over,
        ),
        "refused_operation": operation(
            RequestKind.UNDO,
            RequestStatus.REFUSED,
            arguments={"stop_runs": False},
            error=made.errors["runs"],
            **over,
        ),
        "unfinished_operation": operation(
            RequestKind.RESTORE,
            RequestStatus.UNFINISHED,
            arguments=source,
            error=made.errors["connection"],
            **over,
        ),
    }
    return {name: str(row.pk) for name, row in (rows | _copies(tenant, operation, made)).items()}


def _copies(tenant: Tenant, operation: Any, made: Made) -> dict[str, Any]:
    """Create a finished preview of copying prompts to all tenants, and the finished copy."""
    from prompts.fleet.compare import digest_of
    from prompts.models import Prompt
    from prompts.selectors import active_prompts
    from tenants.models import BatchKind, BatchStatus, BatchTenant, MigrationBatch, RequestKind, RequestStatus
    from tenants.requests.prompt_copies import copy_arguments, preview_arguments
    from tenants.routing.context import tenant_context

    with tenant_context(tenant) as alias:
        active = active_prompts(alias=alias, steps=STEPS)
        # The draft, so that its step has a difference to show.
        copied = active | {
            STEPS[1]: Prompt.objects.using(alias).get(step=STEPS[1], version=active[STEPS[1]].version + 1)
        }
    versions = [{"step": step, "version": copied[step].version, "sha256": digest_of(copied[step])} for step in STEPS]

    def batch(*, dry_run: bool) -> MigrationBatch:
        row = MigrationBatch.objects.create(
            kind=BatchKind.PROMPT_COPY,
            status=BatchStatus.COMPLETED,
            dry_run=dry_run,
            user_id="staff:hanako",
            version="outline v1, draft v1",
            tenant_count=120,
            pending_count=61,
            finished_at=_ago(seconds=2),
        )
        made.rows.append(row)
        for number in range(61):
            changes = [
                {
                    "step": step,
                    "before": 1 + number % 2,
                    "before_id": active[step].pk,
                    "after": 2,
                    "after_id": None,
                    "before_sha256": digest_of(active[step]) if number % 3 == 0 and step == "outline" else "0" * 64,
                }
                for step in ("outline", "draft")
            ]
            target = f"customer-{number:02}" if number else tenant.pk
            BatchTenant.objects.create(
                batch=row,
                tenant_id=target,
                server="x",
                database="x",
                from_version="x",
                migrations=[],
                changes=changes,
            )
        return row

    over = {"started_at": _ago(seconds=12), "finished_at": _ago(seconds=2)}
    result = {"tenants": 120, "changed": 61}
    preview = operation(
        RequestKind.PROMPT_COPY,
        RequestStatus.DONE,
        arguments=preview_arguments(steps=[], version=None, tenants=None, text=""),
        result={"batch": str(batch(dry_run=True).pk), **result, "prompts": versions, "to_all": True},
        **over,
    )
    copy = operation(
        RequestKind.PROMPT_COPY,
        RequestStatus.DONE,
        arguments={**copy_arguments(preview), "preview": str(uuid4())},
        result={"batch": str(batch(dry_run=False).pk), **result},
        **over,
    )
    return {"preview_operation": preview, "copy_operation": copy}


def _approvals(tenant: Tenant, user: User, other: User, made: Made) -> dict[str, str]:
    from tenants.approvals.digest import digest_of
    from tenants.models import Approval, ApprovalKind, ApprovalStatus

    delete = {"accept_audit_loss": False, "accept_lost_backups": False}
    export = {"output": "/exports/customer.bundle", "recipient": ""}

    def approval(kind: ApprovalKind, status: ApprovalStatus, by: User, arguments: Any, **more: Any) -> Approval:
        row = Approval.objects.create(
            kind=kind,
            tenant_id=tenant.pk,
            arguments=arguments,
            digest=digest_of(kind, tenant.pk, arguments),
            status=status,
            requested_by=f"staff:{by.username}",
            requester_id=by.pk,
            reason="契約が終了したため",
            requested_at=_ago(hours=4),
            expires_at=_ago(hours=-20),
            **more,
        )
        made.rows.append(row)
        return row

    decided = {"decided_by": "staff:taro", "decided_at": _ago(hours=1), "note": "確認しました"}
    used = {"used_at": _ago(minutes=5), "used_by": f"staff:{user.username}", **decided}
    rows = {
        "asked_approval": approval(ApprovalKind.DELETE, ApprovalStatus.REQUESTED, other, delete),
        "own_approval": approval(ApprovalKind.EXPORT, ApprovalStatus.REQUESTED, user, export),
        "approved_approval": approval(ApprovalKind.DELETE, ApprovalStatus.APPROVED, user, delete, **decided),
        "rejected_approval": approval(ApprovalKind.EXPORT, ApprovalStatus.REJECTED, user, export, **decided),
        "used_approval": approval(ApprovalKind.EXPORT, ApprovalStatus.USED, user, export, **used),
    }
    return {name: str(row.pk) for name, row in rows.items()}


def _access(tenant: Tenant, user: User, other: User, made: Made) -> dict[str, str]:
    from tenants.models import Role, TemporaryAccess, TenantGroup

    for closed_at in (None, _ago(minutes=20)):
        access = TemporaryAccess.objects.create(
            user=other,
            user_name=other.username,
            tenant=tenant,
            role=Role.OPERATOR,
            reason="お客様からの問い合わせ",
            opened_at=_ago(minutes=30),
            expires_at=_ago(minutes=-30),
            recorded_at=_ago(minutes=30),
            closed_at=closed_at,
        )
        made.rows.append(access)
    group = TenantGroup.objects.get(tenants=tenant, name__startswith="東京")
    return {"access": str(access.pk), "group": str(group.pk)}


def _batches(tenant: Tenant, made: Made) -> dict[str, str]:
    from tenants.models import BatchStatus, BatchTenant, MigrationBatch

    batch = MigrationBatch.objects.create(
        status=BatchStatus.COMPLETED,
        user_id="staff:hanako",
        version="runs.0012",
        tenant_count=50,
        pending_count=48,
        timing_ms={"prepare": 1200, "commit": 300},
        started_at=_ago(minutes=2),
        decided_at=_ago(minutes=1),
        finished_at=_ago(minutes=1),
    )
    made.rows.append(batch)
    BatchTenant.objects.create(
        batch=batch,
        tenant_id=tenant.pk,
        server=str(tenant.server_id),
        from_version="runs.0011",
        migrations=["runs.0012_example"],
        prepared_ms=240,
        locked_ms=12,
    )
    return {"batch": str(batch.pk)}


def _model(made: Made) -> dict[str, str]:
    """Create a model with two sets of prices: one valid from today, and one valid from 30 days later."""
    from llm.models import LLMModel, PriceSource
    from llm.prices.history import price_add
    from llm.types import ModelPrices

    model = LLMModel.objects.create(
        provider_id="claude",
        model_name=f"claude-page-{uuid4().hex[:6]}",
        model_class="standard",
        cost_per_1k_input_tokens=Decimal("0.003"),
        cost_per_1k_output_tokens=Decimal("0.015"),
    )
    made.rows.append(model)
    today = datetime.datetime.now(datetime.UTC).date()
    for days, dollars in ((0, "0.004"), (30, "0.002")):
        prices = ModelPrices.from_document({"input": dollars, "output": "0.015"})
        day = today + timedelta(days=days)
        price_add(model=model, prices=prices, source=PriceSource.HAND, valid_from=day, note="値下げの発表")
    return {"model": str(model.pk)}


def _erased(made: Made) -> dict[str, str]:
    from tenants.erasure.delete import tenant_delete
    from tenants.lifecycle.create import tenant_create
    from tests.tenants.support.created import new_id

    gone = tenant_create(name="閉店したお店", tenant_id=new_id())
    made.erasure = tenant_delete(tenant_id=gone.pk)
    return {"erasure": str(made.erasure.pk), "gone": gone.pk}


def _ago(**span: float) -> datetime.datetime:
    from django.utils import timezone

    return timezone.now() - timedelta(**span)
