"""A run's page follows the run, and no text of a run is executed as code on any page."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import PurePosixPath
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from audit.models import AuditLog
from config.base.databases import CONTROL
from runs import storage
from runs.models import Artifact, Call, CallStatus, PauseCause, Run, RunStatus, Step, StepStatus
from runs.services.create import run_create
from tenants.lifecycle.suspend import tenant_resume, tenant_suspend
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.runs.admin.hostile import HOSTILE, MARK
from tests.support.staff import ARTICLE, Filled, give_role, run_in_review

# Attributes that hold text, and nothing else.
TEXT_ATTRIBUTES = {"value", "title", "content", "aria-label", "data-value", "data-label"}


def page(tenant: Tenant, run: Run, rest: str = "live/") -> str:
    return f"/t/{tenant.id}/admin/runs/run/{run.pk}/{rest}"


def reads(tenant: Tenant) -> int:
    with tenant_context(tenant):
        return AuditLog.objects.filter(action__in=("run.read", "artifact.read")).count()


def test_a_page_polls_until_the_run_is_over_and_only_the_page_is_a_read(browser: Client, tenant: Tenant) -> None:
    run = run_create(tenant_id=tenant.id, config={"keyword": "tea"})
    html = browser.get(page(tenant, run, "change/")).content.decode()
    assert f'hx-get="{page(tenant, run)}"' in html and "every 3s [!document.hidden]" in html
    assert reads(tenant) == 1
    part = browser.get(page(tenant, run)).content.decode()
    assert "hx-trigger" in part and "<html" not in part and "Waiting for a worker" in part
    assert "pause/" in part and "resume/" not in part
    with tenant_context(tenant):
        Run.objects.filter(pk=run.pk).update(status=RunStatus.FAILED)
        Step.objects.filter(run=run, step="keyword_analysis").update(
            status=StepStatus.FAILED, error_message="No key.", token_usage={"input": 5, "output": 7}
        )
    part = browser.get(page(tenant, run)).content.decode()
    assert "hx-trigger" not in part
    assert "keyword_analysis: No key." in part and "retry/" in part and "pause/" not in part
    assert reads(tenant) == 1


def test_each_call_is_on_the_timeline_and_nothing_unknown_is_0(browser: Client, tenant: Tenant) -> None:
    run = run_create(tenant_id=tenant.id, config={"keyword": "tea"})
    with tenant_context(tenant):
        step = Step.objects.get(run=run, step="keyword_analysis")
        common = {
            "run": run,
            "step": step,
            "version": 1,
            "lease_token": 1,
            "llm_provider": "claude",
            "llm_model": "m",
            "max_input_tokens": 10,
            "max_output_tokens": 10,
        }
        Call.objects.create(**common, attempt=1, status=CallStatus.UNKNOWN, error_code="llm_timeout")
        Call.objects.create(**common, attempt=2, status=CallStatus.SETTLED, token_usage={"input": 3, "output": 4})
    part = browser.get(page(tenant, run)).content.decode()
    for text in ("attempt 1", "attempt 2", "llm_timeout", "3 / 4", "unknown"):
        assert text in part


@pytest.mark.parametrize(
    ("prices", "on_the_run", "on_the_step"),
    [
        ({"input": "0.003", "output": "0.015"}, "0.0105 USD", "0.0105"),
        ({"input": "0.003"}, "at least 0.0030 USD", "at least 0.0030"),
        ({}, "cost unknown", "unknown"),
    ],
)
def test_the_cost_of_a_step_is_exact_only_if_everything_has_a_price(
    prices: dict[str, str], on_the_run: str, on_the_step: str, browser: Client, tenant: Tenant
) -> None:
    with tenant_context(tenant):
        run = Run.objects.create(status=RunStatus.COMPLETED, config={"keyword": "tea", "language": "en"})
        step = Step.objects.create(
            run=run,
            step="final",
            status=StepStatus.COMPLETED,
            token_usage={"input": 1_000, "output": 500},
            prices=prices,
        )
    live = browser.get(page(tenant, run)).content.decode()
    assert re.findall(r"<span>([^<]*(?:USD|cost)[^<]*)</span>", live) == [on_the_run]
    html = browser.get(f"/t/{tenant.id}/admin/runs/step/{step.pk}/change/").content.decode()
    assert on_the_step in re.sub(r"<[^>]*>|\s+", " ", html)


def test_who_may_no_longer_look_gets_no_fragment(tenant: Tenant, browser: Client, staff: User) -> None:
    run = run_create(tenant_id=tenant.id, config={"keyword": "tea"}, hold=True)
    role = give_role(staff, "viewer", tenant)
    client = Client()
    client.force_login(staff)
    assert client.get(page(tenant, run)).status_code == 200
    tenant_suspend(tenant_id=tenant.id)
    assert client.get(page(tenant, run)).status_code == 403
    tenant_resume(tenant_id=tenant.id)
    role.delete()
    assert client.get(page(tenant, run)).status_code == 404
    client.logout()
    assert client.get(page(tenant, run)).status_code == 302
    assert browser.get(page(tenant, Run(pk=uuid4()))).status_code == 404


def test_only_reviewers_approve_and_send_back(tenant: Tenant, browser: Client, staff: User) -> None:
    run = run_in_review(tenant)
    part = browser.get(page(tenant, run)).content.decode()
    assert "approve/" in part and "send_back/" in part
    give_role(staff, "editor", tenant)
    client = Client()
    client.force_login(staff)
    part = client.get(page(tenant, run)).content.decode()
    assert "cancel/" in part and "approve/" not in part and "send_back/" not in part
    for action in ("approve", "send_back"):
        answer = client.post(page(tenant, run, f"{action}/"), {"_form_submitted": "on", "comment": "x"})
        assert answer.status_code == 403


def test_a_runs_own_budget_is_raised_on_its_page(tenant: Tenant, browser: Client) -> None:
    run = run_create(tenant_id=tenant.id, config={"keyword": "tea", "budget_usd": 1}, hold=True)
    assert "raise_budget/" not in browser.get(page(tenant, run)).content.decode()
    with tenant_context(tenant):
        Run.objects.filter(pk=run.pk).update(pause_cause=PauseCause.BUDGET)
    assert "raise_budget/" in browser.get(page(tenant, run)).content.decode()
    wrong = browser.post(page(tenant, run, "raise_budget/"), {"_form_submitted": "on", "budget_usd": "-1"})
    assert "Enter an amount above 0" in wrong.content.decode()
    browser.post(page(tenant, run, "raise_budget/"), {"_form_submitted": "on", "budget_usd": "2.5"})
    with tenant_context(tenant):
        changed = Run.objects.get(pk=run.pk)
    assert changed.config is not None and changed.config["budget_usd"] == 2.5
    assert changed.status == RunStatus.PENDING


def test_a_text_is_verified_recorded_and_compared(browser: Client, filled: Filled) -> None:
    with tenant_context(filled.tenant):
        old = storage.write(storage.version_path(filled.artifact.file_path, 1), b"# \xe8\xa8\x98\xe4\xba\x8b\n\nOld.\n")
        Artifact.objects.create(
            run=filled.run,
            step="final",
            file_type="text/markdown",
            file_path=old.path,
            digest=old.digest,
            metadata={"version": 1},
        )
    html = browser.get(page(filled.tenant, filled.run, "texts/")).content.decode()
    assert "<h1>記事</h1>" in html and f"Characters: {len(ARTICLE)}" in html and "version 1" in html
    assert reads(filled.tenant) == 1
    html = browser.get(page(filled.tenant, filled.run, "compare/")).content.decode()
    assert "<del>" in html and "<ins>" in html and reads(filled.tenant) == 3
    assert columns(html) == ["Article (final), version 1", "Article (final)"]
    with tenant_context(filled.tenant):
        storage.write(filled.artifact.file_path, b"altered")
    html = browser.get(page(filled.tenant, filled.run, "texts/")).content.decode()
    assert "differs from the recorded one" in html and "altered</p>" not in html and reads(filled.tenant) == 3


def columns(html: str) -> list[str]:
    """Return the labels of the two texts that a page compares, the earlier one first."""
    return [label for label in re.findall(r"<th>(.*?)</th>", html) if label]


def test_a_version_is_compared_with_the_one_that_it_replaced(browser: Client, filled: Filled) -> None:
    with tenant_context(filled.tenant):
        kept = {}
        for number in (1, 2):
            path = storage.version_path(filled.artifact.file_path, number)
            old = storage.write(path, b"# %d\n" % number)
            kept[number] = Artifact.objects.create(
                run=filled.run,
                step="final",
                file_type="text/markdown",
                file_path=old.path,
                digest=old.digest,
                metadata={"version": number},
            )
            # As a retry keeps it, after the article's row.
            Artifact.objects.create(
                run=filled.run,
                step="final",
                file_type="output",
                file_path=str(PurePosixPath(old.path).with_name("output.json")),
                digest="0" * 64,
                metadata={"version": number},
            )
    chosen = {
        filled.artifact.pk: ["Article (final), version 2", "Article (final)"],
        kept[2].pk: ["Article (final), version 1", "Article (final), version 2"],
    }
    for pk, expected in chosen.items():
        html = browser.get(page(filled.tenant, filled.run, f"compare/?new=a{pk}")).content.decode()
        assert columns(html) == expected


def test_pages_need_few_queries_however_many_rows_there_are(browser: Client, filled: Filled) -> None:
    with tenant_context(filled.tenant) as alias:
        Run.objects.bulk_create(Run(status=RunStatus.FAILED, config={"keyword": f"k{n}"}) for n in range(60))
        for run in Run.objects.all():
            Step.objects.create(run=run, step="outline", status=StepStatus.FAILED, error_message="x", position=1)
    for rest in ("runs/run/", "runs/step/", "runs/artifact/", f"runs/run/{filled.run.pk}/live/"):
        with (
            CaptureQueriesContext(connections[alias]) as of_tenant,
            CaptureQueriesContext(connections[CONTROL]) as of_control,
        ):
            assert browser.get(filled.site + rest).status_code == 200
        assert len(of_tenant) + len(of_control) <= 12, rest


class Marked(HTMLParser):
    """Collects the tags, attributes and comments in which the mark is more than text."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if MARK in name or (MARK in (value or "") and name not in TEXT_ATTRIBUTES):
                self.wrong.append(f"<{tag} {name}={value!r}>")
        if MARK in tag:
            self.wrong.append(tag)

    def handle_comment(self, data: str) -> None:
        if MARK in data:
            self.wrong.append(f"<!-- {data}")


def test_nothing_that_a_run_contains_acts_on_a_page(browser: Client, filled: Filled) -> None:
    text = "\n\n".join(HOSTILE)
    with tenant_context(filled.tenant):
        file = storage.write(filled.artifact.file_path, text.encode())
        Artifact.objects.filter(pk=filled.artifact.pk).update(digest=file.digest)
        Run.objects.filter(pk=filled.run.pk).update(
            status=RunStatus.FAILED,
            current_step="final",
            config={"keyword": text, "language": text, "audience": text, "series_id": text},
        )
        Step.objects.filter(pk=filled.step.pk).update(
            status=StepStatus.FAILED, error_message=text, summary=text, llm_model=text, review_comment=text
        )
        old = storage.write(storage.version_path(filled.artifact.file_path, 1), b"other")
        Artifact.objects.create(
            run=filled.run, step="final", file_type="x", file_path=old.path, digest=old.digest, metadata={"version": 1}
        )
    run = f"runs/run/{filled.run.pk}"
    pages = [
        *("", "runs/run/", f"{run}/change/", f"{run}/live/", f"{run}/texts/", f"{run}/compare/"),
        *("runs/step/", f"runs/step/{filled.step.pk}/change/", "runs/artifact/", f"runs/run/add/?from={filled.run.pk}"),
    ]
    for rest in pages:
        html = browser.get(filled.site + rest).content.decode()
        assert MARK in html or rest in ("runs/artifact/",), rest
        marked = Marked()
        marked.feed(html)
        assert marked.wrong == [], rest
