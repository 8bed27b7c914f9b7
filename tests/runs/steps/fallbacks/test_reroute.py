"""A step whose model cannot be called moves to a fallback and its prices, unless it may have used tokens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import OutputWrapper
from django.db import connections
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from audit.models import AuditLog
from llm.models import LLMModel, LLMProvider
from llm.prices.history import today
from runs.models import Call, CallStatus, Run, RunCost, RunStatus, Step, StepStatus
from runs.presentation.follow import EventLines
from runs.selectors import run_document
from runs.services.cancel import run_cancel
from runs.services.pause import run_pause
from runs.services.resume import run_resume
from runs.steps.execute import step_execute
from runs.steps.fallbacks.leave import steps_leave
from runs.steps.fallbacks.reroute import open_routes
from runs.steps.sweep import runs_sweep
from runs.tasks import execute_step
from runs.turns import take
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.llm.wire import allow_server
from tests.runs.driving import STEPS, execute, messages_sent, reload, standard_model
from tests.runs.fake_llm import Answer, FakeLLM
from tests.runs.services.states import change_step, steps_of

FIRST = STEPS[0]
MakeRun = Callable[..., Run]


@pytest.fixture(autouse=True)
def one_fault_opens(settings: Settings) -> None:
    settings.LLM_BREAKER_FAULTS = 1


@pytest.fixture
def spare(fake_llm: FakeLLM, monkeypatch: pytest.MonkeyPatch) -> Iterator[LLMModel]:
    """Yield a model of another provider, for which the same fake answers."""
    provider = LLMProvider.objects.create(
        pk="spare", display_name="Spare", api_base_url=fake_llm.url, key_variable="OPENAI_API_KEY"
    )
    allow_server(fake_llm.url, monkeypatch)
    made = LLMModel.objects.create(
        provider=provider,
        model_name="spare-1",
        model_class="pro",
        cost_per_1k_input_tokens=Decimal(7),
        cost_per_1k_output_tokens=Decimal(11),
    )
    yield made
    LLMModel.objects.filter(provider=provider).delete()
    provider.delete()


@pytest.fixture
def pinned() -> Iterator[LLMModel]:
    """Yield the model that runs pin; make it active again afterwards."""
    model = standard_model()
    yield model
    LLMModel.objects.filter(pk=model.pk).update(is_active=True, retires_on=None)


@pytest.fixture
def run(tenant: Tenant, make_run: MakeRun, spare: LLMModel) -> Run:
    """Return a run of one step, whose fallback is the spare model."""
    made = make_run(tenant, steps=(FIRST,))
    change_step(tenant, made, FIRST, fallbacks=[{"provider": "spare", "model": "spare-1"}])
    return made


def wake_up(tenant: Tenant, run: Run) -> None:
    execute_step.apply(args=(tenant.pk, str(run.pk), FIRST)).get()


def fail_once(tenant: Tenant, run: Run, fake_llm: FakeLLM) -> None:
    """Make the step's call fail, which opens the breaker of its route."""
    fake_llm.answers.append(Answer(status=503))
    wake_up(tenant, run)
    assert open_routes() == {str(standard_model())}


def step_of(tenant: Tenant, run: Run) -> Step:
    return steps_of(tenant, run)[FIRST]


def route_of(tenant: Tenant, run: Run) -> str:
    step = step_of(tenant, run)
    return f"{step.llm_provider}/{step.llm_model}"


def entries(tenant: Tenant) -> list[object]:
    with tenant_context(tenant) as alias:
        found = AuditLog.objects.using(alias).filter(action="step.reroute").order_by("id")
        return list(found.values_list("details", flat=True))


class TestBreakerOpen:
    def test_the_step_completes_on_the_fallback_at_its_prices(
        self, tenant: Tenant, run: Run, fake_llm: FakeLLM
    ) -> None:
        fail_once(tenant, run, fake_llm)
        failed = step_of(tenant, run)
        assert failed.prices is not None and failed.not_before is not None
        before = str(standard_model())
        messages_sent()
        runs_sweep()
        assert messages_sent() == [(tenant.pk, str(run.pk), FIRST)]
        moved = step_of(tenant, run)
        assert (moved.llm_provider, moved.llm_model, moved.fallbacks) == ("spare", "spare-1", [])
        assert moved.rerouted == {"from": before, "reason": "breaker_open"}
        assert (moved.prices, moved.cost_per_1k_input_tokens, moved.not_before) == (None, None, None)
        wake_up(tenant, run)
        assert reload(tenant, run).status == RunStatus.COMPLETED
        done = step_of(tenant, run)
        assert (done.prices, done.retry_count) == ({"input": "7", "output": "11"}, 1)
        with tenant_context(tenant) as alias:
            calls = Call.objects.using(alias).filter(run=run).order_by("id")
            assert [f"{call.llm_provider}/{call.llm_model}" for call in calls] == [before, "spare/spare-1"]
            # 1,000 tokens in, 200 out.
            assert RunCost.objects.using(alias).get(run=run).total_llm_cost == Decimal(7) + Decimal("2.2")
        assert entries(tenant) == [
            {"run_id": str(run.pk), "step": FIRST, "from": before, "to": "spare/spare-1", "reason": "breaker_open"}
        ]
        [step] = run_document(tenant_id=tenant.pk, run_id=run.pk)["steps"]
        assert step["rerouted"] == {"from": before, "reason": "breaker_open"}

    def test_a_step_that_has_used_tokens_stays(self, tenant: Tenant, run: Run, fake_llm: FakeLLM) -> None:
        fake_llm.answers.append(Answer(text=" "))
        assert execute(tenant, run, FIRST) == "retried"
        change_step(tenant, run, FIRST, not_before=None)
        fail_once(tenant, run, fake_llm)
        before = step_of(tenant, run)
        runs_sweep()
        after = step_of(tenant, run)
        assert (after.llm_provider, after.prices, after.rerouted) == (before.llm_provider, before.prices, None)
        assert entries(tenant) == []

    @pytest.mark.parametrize(
        "columns",
        [
            {"status": CallStatus.UNKNOWN, "token_usage": None},
            {"status": CallStatus.OPEN, "token_usage": None},
            {"status": CallStatus.SETTLED, "token_usage": {"input": 5, "output": 0}},
        ],
    )
    def test_a_step_whose_call_may_have_used_tokens_stays(
        self, tenant: Tenant, run: Run, fake_llm: FakeLLM, columns: dict[str, object]
    ) -> None:
        fail_once(tenant, run, fake_llm)
        with tenant_context(tenant) as alias:
            assert Call.objects.using(alias).filter(run=run).update(**columns) == 1
        runs_sweep()
        assert route_of(tenant, run) == str(standard_model())

    @pytest.mark.parametrize("missing", ["inactive", "removed", "open", "key", "fallbacks"])
    def test_without_a_usable_fallback_it_waits(
        self,
        tenant: Tenant,
        run: Run,
        spare: LLMModel,
        fake_llm: FakeLLM,
        missing: str,
    ) -> None:
        fail_once(tenant, run, fake_llm)
        route, closed = str(standard_model()), open_routes()
        match missing:
            case "inactive":
                LLMModel.objects.filter(pk=spare.pk).update(is_active=False)
            case "removed":
                LLMModel.objects.filter(pk=spare.pk).delete()
            case "open":
                closed |= {"spare/spare-1"}
            case "key":
                LLMProvider.objects.filter(pk="spare").update(key_variable="SPARE_API_KEY")
            case "fallbacks":
                change_step(tenant, run, FIRST, fallbacks=None)
        with tenant_context(tenant) as alias:
            assert steps_leave(alias=alias, tenant_id=tenant.pk, open_routes=closed) == 0
        assert (route_of(tenant, run), entries(tenant)) == (route, [])
        waiting = run_document(tenant_id=tenant.pk, run_id=run.pk)["waiting"]
        assert waiting is not None and waiting["reason"] == "retry"

    def test_the_first_usable_fallback_is_taken_and_the_others_stay(
        self, tenant: Tenant, run: Run, fake_llm: FakeLLM
    ) -> None:
        gone, usable = {"provider": "spare", "model": "gone"}, {"provider": "spare", "model": "spare-1"}
        change_step(tenant, run, FIRST, fallbacks=[gone, usable])
        fail_once(tenant, run, fake_llm)
        runs_sweep()
        assert (route_of(tenant, run), step_of(tenant, run).fallbacks) == ("spare/spare-1", [gone])

    def test_the_tenants_limit_does_not_exceed_the_fallbacks(
        self, tenant: Tenant, run: Run, spare: LLMModel, fake_llm: FakeLLM
    ) -> None:
        LLMModel.objects.filter(pk=spare.pk).update(max_output_tokens=50)
        change_step(tenant, run, FIRST, output_limit=70)
        fail_once(tenant, run, fake_llm)
        runs_sweep()
        wake_up(tenant, run)
        asked, fallback = fake_llm.requests
        # The vendor's own server and compatible ones have different names for it.
        assert (asked["max_completion_tokens"], fallback["max_tokens"]) == (70, 50)

    def test_two_sweeps_at_once_move_it_once(self, tenant: Tenant, run: Run, fake_llm: FakeLLM) -> None:
        change_step(tenant, run, FIRST, fallbacks=[{"provider": "spare", "model": "spare-1"}] * 2)
        fail_once(tenant, run, fake_llm)
        closed, moved, together = open_routes(), [], threading.Barrier(2)

        def sweep() -> None:
            try:
                with tenant_context(tenant.pk) as alias:
                    together.wait(10)
                    moved.append(steps_leave(alias=alias, tenant_id=tenant.pk, open_routes=closed))
            finally:
                connections["default"].close()

        threads = [threading.Thread(target=sweep) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (sorted(moved), len(entries(tenant))) == ([0, 1], 1)


class TestShown:
    """`run show` and the step's page say which fallback is used, and why."""

    @staticmethod
    def printed(tenant: Tenant, run: Run, capsys: pytest.CaptureFixture[str]) -> str:
        call_command("run_show", "--tenant-id", tenant.pk, "--run-id", str(run.pk))
        return capsys.readouterr().out

    def test_a_breaker(
        self, tenant: Tenant, run: Run, fake_llm: FakeLLM, capsys: pytest.CaptureFixture[str], browser: Client
    ) -> None:
        before = str(standard_model())
        assert "instead of" not in self.printed(tenant, run, capsys)
        fail_once(tenant, run, fake_llm)
        runs_sweep()
        route = f"spare/spare-1 instead of {before}, which"
        assert f"\nStep {FIRST} uses {route} had failed repeatedly or was rate-limited.\n" in self.printed(
            tenant, run, capsys
        )
        wake_up(tenant, run)
        answered = f"Step {FIRST} used {route} had failed repeatedly or was rate-limited."
        assert f"\n{answered}\n" in self.printed(tenant, run, capsys)
        page = f"/t/{tenant.pk}/admin/runs/step/{step_of(tenant, run).pk}/change/"
        assert answered in browser.get(page).content.decode()

    def test_an_inactive_model(self, tenant: Tenant, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        change_step(tenant, run, FIRST, llm_model="removed")
        because = "spare/spare-1 instead of openai/removed, which"
        assert execute(tenant, run, FIRST) == "not claimed"
        assert f"\nStep {FIRST} uses {because} was inactive, retired or removed.\n" in self.printed(tenant, run, capsys)
        assert execute(tenant, run, FIRST) == "completed"
        assert f"\nStep {FIRST} used {because} was inactive, retired or removed.\n" in self.printed(tenant, run, capsys)

    def test_following_tells_of_it_once(self, tenant: Tenant, run: Run, fake_llm: FakeLLM) -> None:
        out = StringIO()
        lines = EventLines(OutputWrapper(out))

        def follow() -> None:
            lines(run_document(tenant_id=tenant.pk, run_id=run.pk))

        follow()
        fail_once(tenant, run, fake_llm)
        runs_sweep()
        follow()
        wake_up(tenant, run)
        follow()
        assert out.getvalue().count(f"spare/spare-1 instead of {standard_model()}") == 1


class TestPeople:
    """A person's pause or cancellation takes precedence over the move to a fallback."""

    def test_a_paused_run_moves_once_it_is_resumed(self, tenant: Tenant, run: Run, fake_llm: FakeLLM) -> None:
        fail_once(tenant, run, fake_llm)
        run_pause(tenant_id=tenant.pk, run_id=run.pk)
        runs_sweep()
        assert (route_of(tenant, run), reload(tenant, run).status) == (str(standard_model()), RunStatus.PAUSED)
        run_resume(tenant_id=tenant.pk, run_id=run.pk)
        runs_sweep()
        assert route_of(tenant, run) == "spare/spare-1"

    def test_a_cancelled_run_does_not_move(self, tenant: Tenant, run: Run, fake_llm: FakeLLM) -> None:
        fail_once(tenant, run, fake_llm)
        run_cancel(tenant_id=tenant.pk, run_id=run.pk)
        runs_sweep()
        assert (route_of(tenant, run), reload(tenant, run).status) == (str(standard_model()), RunStatus.FAILED)

    def test_a_pause_after_the_move_keeps_it_from_being_executed(
        self, tenant: Tenant, run: Run, fake_llm: FakeLLM
    ) -> None:
        fail_once(tenant, run, fake_llm)
        runs_sweep()
        run_pause(tenant_id=tenant.pk, run_id=run.pk)
        wake_up(tenant, run)
        assert (len(fake_llm.requests), step_of(tenant, run).status) == (1, StepStatus.PENDING)


class TestModelInactive:
    @pytest.mark.parametrize("how", ["inactive", "retired"])
    def test_the_claim_moves_the_step_and_wakes_a_worker(
        self, tenant: Tenant, run: Run, pinned: LLMModel, fake_llm: FakeLLM, how: str
    ) -> None:
        columns = {"is_active": False} if how == "inactive" else {"retires_on": today()}
        LLMModel.objects.filter(pk=pinned.pk).update(**columns)
        messages_sent()
        assert execute(tenant, run, FIRST) == "not claimed"
        assert messages_sent() == [(tenant.pk, str(run.pk), FIRST)]
        assert step_of(tenant, run).rerouted == {"from": str(pinned), "reason": "model_inactive"}
        assert execute(tenant, run, FIRST) == "completed"
        assert [request["model"] for request in fake_llm.requests] == ["spare-1"]
        assert len(entries(tenant)) == 1

    def test_so_does_one_that_was_removed(self, tenant: Tenant, run: Run) -> None:
        change_step(tenant, run, FIRST, llm_model="removed")
        assert [execute(tenant, run, FIRST) for _ in range(2)] == ["not claimed", "completed"]
        assert step_of(tenant, run).rerouted == {"from": "openai/removed", "reason": "model_inactive"}

    def test_without_a_fallback_the_run_finishes_with_the_model_that_it_pinned(
        self, tenant: Tenant, run: Run, pinned: LLMModel
    ) -> None:
        change_step(tenant, run, FIRST, fallbacks=[])
        LLMModel.objects.filter(pk=pinned.pk).update(is_active=False)
        assert execute(tenant, run, FIRST) == "completed"
        assert route_of(tenant, run) == str(pinned)


class TestOldTurn:
    def test_a_turn_of_the_old_route_does_not_execute_the_step(
        self, tenant: Tenant, run: Run, fake_llm: FakeLLM
    ) -> None:
        turn = take().turn
        assert turn is not None and turn.waiting.route == str(standard_model())
        change_step(tenant, run, FIRST, llm_provider="spare", llm_model="spare-1")
        outcome = step_execute(tenant_id=tenant.pk, run_id=run.pk, step=FIRST, owner="test", turn=turn)
        assert (outcome, fake_llm.requests) == ("not claimed", [])

    def test_its_place_in_the_old_queue_is_not_shown(
        self, tenant: Tenant, run: Run, fake_llm: FakeLLM, make_run: MakeRun
    ) -> None:
        second = make_run(tenant, steps=(FIRST,))
        change_step(tenant, second, FIRST, fallbacks=[{"provider": "spare", "model": "spare-1"}])
        fail_once(tenant, run, fake_llm)
        wait = run_document(tenant_id=tenant.pk, run_id=second.pk)["waiting"]
        assert wait is not None and (wait["reason"], wait["route"]) == ("breaker", str(standard_model()))
        runs_sweep()
        wait = run_document(tenant_id=tenant.pk, run_id=second.pk)["waiting"]
        assert wait is not None and wait["route"] in (None, "spare/spare-1")
        for moved in (run, second):
            wake_up(tenant, moved)
        assert {reload(tenant, moved).status for moved in (run, second)} == {RunStatus.COMPLETED}

    def test_a_lost_wake_up_of_the_new_route_is_repeated(self, tenant: Tenant, run: Run, fake_llm: FakeLLM) -> None:
        fail_once(tenant, run, fake_llm)
        runs_sweep()
        messages_sent()
        change_step(tenant, run, FIRST, wake_after=timezone.now() - timedelta(seconds=1))
        assert runs_sweep().woken == 1
        assert messages_sent() == [(tenant.pk, str(run.pk), FIRST)]
