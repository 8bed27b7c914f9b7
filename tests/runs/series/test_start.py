"""Starting many runs at once: the estimate; no run is created twice, even if the start is interrupted or repeated."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from uuid import uuid4

from django.db import connections

from audit.models import AuditLog
from runs.models import Run, Step, StepStatus
from runs.series.estimate import estimate
from runs.series.rows import ListedRow, listed_rows
from runs.series.start import SeriesReport, series_id_of, series_start
from tenants.models import Tenant
from tenants.routing.context import tenant_context


def rows_of(*keywords: str) -> list[ListedRow]:
    return listed_rows("\n".join(keywords), inputs=[], common={"language": "en"})


def test_each_row_is_one_audited_run_that_can_be_found_again(tenant: Tenant) -> None:
    rows = rows_of("tea", "coffee", "milk")
    series_id = series_id_of(uuid4(), rows, hold=True)
    report = series_start(tenant_id=tenant.id, series_id=series_id, rows=rows, hold=True)
    assert report == SeriesReport(series_id, started=3, earlier=0, left=0, error=None)
    with tenant_context(tenant):
        found = Run.objects.filter(config__series_id=series_id)
        assert sorted(run.config["keyword"] for run in found if run.config) == ["coffee", "milk", "tea"]
        ids = set(AuditLog.objects.filter(action="run.create").values_list("resource_id", flat=True))
        assert ids == {str(run.pk) for run in found}


def test_the_same_list_sent_twice_at_the_same_time_starts_once(tenant: Tenant) -> None:
    rows, nonce = rows_of(*(f"keyword {number}" for number in range(6))), uuid4()

    def send(_number: int) -> SeriesReport:
        try:
            series_id = series_id_of(nonce, rows, hold=True)
            return series_start(tenant_id=tenant.id, series_id=series_id, rows=rows, hold=True)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(3) as pool:
        reports = list(pool.map(send, range(3)))
    assert {report.left for report in reports} == {0}
    with tenant_context(tenant):
        assert Run.objects.count() == 6
        assert AuditLog.objects.filter(action="run.create").count() == 6


def test_another_list_of_the_same_form_is_another_series() -> None:
    nonce = uuid4()
    ids = {series_id_of(nonce, rows_of(*words), hold=hold) for words in (["a"], ["b"]) for hold in (True, False)}
    assert len(ids) == 4


def test_what_is_left_after_a_refusal_or_the_time_is_started_by_the_next_call(tenant: Tenant) -> None:
    good = rows_of("tea", "coffee")
    bad = [*listed_rows("milk", inputs=[], common={"language": "en", "no_such_input": "x"})]
    rows = [good[0], ListedRow(2, bad[0].config), ListedRow(3, good[1].config)]
    series_id = str(uuid4())
    stopped = series_start(tenant_id=tenant.id, series_id=series_id, rows=rows, hold=True)
    assert (stopped.started, stopped.left) == (1, 2)
    assert stopped.error is not None and "no_such_input" in str(stopped.error)
    rows = rows_of("tea", "coffee", "milk")
    counts = []
    for _attempt in rows:
        report = series_start(tenant_id=tenant.id, series_id=series_id, rows=rows, hold=True, enough_s=0)
        counts.append((report.started, report.earlier, report.left))
    assert counts == [(1, 1, 1), (1, 2, 0), (0, 3, 0)]


def test_an_estimate_comes_from_past_steps_and_an_unknown_price_is_not_0(tenant: Tenant) -> None:
    rows = rows_of("tea")
    with tenant_context(tenant) as alias:
        before = estimate(alias=alias, config=rows[0].config, runs=3)
        assert before.total is None and not before.is_complete
        run = series_start(tenant_id=tenant.id, series_id=str(uuid4()), rows=rows, hold=True)
        assert run.started == 1
        usage = {"input": 1000, "output": 500}
        Step.objects.filter(step="outline").update(status=StepStatus.COMPLETED, token_usage=usage)
        after = {one.step: one for one in estimate(alias=alias, config=rows[0].config, runs=3).steps}
        assert (after["outline"].input_tokens, after["outline"].output_tokens) == (1000, 500)
        assert after["draft"].cost is None
        # The local model costs nothing, and its price says so.
        assert after["outline"].cost in (None, Decimal(0))
