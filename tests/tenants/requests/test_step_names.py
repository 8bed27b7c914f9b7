"""Steps of operations are shown in words, while they run and once they are over, and durations with their units."""

from __future__ import annotations

import pytest
from django.utils import translation

from config.base.times import lasting
from tenants.models import BatchKind, MigrationBatch, OperationRequest, RequestKind
from tenants.requests.kinds import KINDS
from tenants.requests.step_names import step_name, step_title
from tenants.types import PHASES

pytestmark = pytest.mark.unit
# Its steps are timed.
DRILL = [step for step in KINDS[RequestKind.DRILL].steps if step != "done"]


def test_every_step_has_words_in_japanese() -> None:
    with translation.override("ja"):
        steps = {step for kind in KINDS.values() for step in kind.steps}
        assert [step for step in sorted(steps) if step_name(step).isascii()] == []
        assert [step for step in (*DRILL, *PHASES) if step_title(step).isascii()] == []
    assert step_name("of another release") == step_title("of another release") == "of another release"


def test_a_step_that_is_over_is_not_said_to_run() -> None:
    from tenants.admin.fleet import MigrationBatchAdmin
    from tenants.admin.operations import facts_of

    batch = MigrationBatch(timing_ms={"rehearse": 61_200, "commit": 300})
    drill = OperationRequest(kind=RequestKind.DRILL, arguments={}, reason="", result={"timing_s": {"load": 1.5}})
    with translation.override("ja"):
        assert MigrationBatchAdmin.phases(None, batch) == "リハーサル 1 分 1 秒, 確定 0.3 秒"  # type: ignore[arg-type]
        assert facts_of(drill) == [("データの読み込み", "1.5 秒")]


def test_a_dry_run_is_not_said_to_have_migrated() -> None:
    from tenants.admin.operations import facts_of

    def facts(*, dry_run: bool) -> list[tuple[str, str]]:
        given = {"dry_run": dry_run}
        return facts_of(OperationRequest(kind=RequestKind.MIGRATE, arguments=given, reason="", result={"migrated": 3}))

    assert facts(dry_run=True) == [("Tenants to migrate", "3")] and facts(dry_run=False) == [("Tenants migrated", "3")]


def test_only_a_migration_is_said_to_be_for_all_tenants() -> None:
    from tenants.admin.fleet import MigrationBatchAdmin

    def scope(kind: BatchKind, tenant_id: str) -> str | None:
        return MigrationBatchAdmin.scope(None, MigrationBatch(kind=kind, tenant_id=tenant_id))  # type: ignore[arg-type]

    assert scope(BatchKind.MIGRATE, "") == "all" and scope(BatchKind.MIGRATE, "customer-a") == "customer-a"
    assert scope(BatchKind.PROMPT_COPY, "") is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-2, "0.0 s"), (59.94, "59.9 s"), (59.97, "1 min 0 s"), (3_599, "59 min 59 s"), (90_000, "25 h 0 min")],
)
def test_a_duration_names_its_units(seconds: float, text: str) -> None:
    assert lasting(seconds) == text
