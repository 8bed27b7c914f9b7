"""Workers and people act at random on the same runs: no illegal state arises, and no forbidden call begins."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from uuid import UUID

import pytest
from django.db import connections

from runs.errors import InvalidRunStep, LeaseLost, RunStateConflict
from runs.models import Artifact, Run, Step
from runs.services.approve import run_approve, run_send_back
from runs.services.cancel import run_cancel
from runs.services.create import run_create
from runs.services.pause import run_pause
from runs.services.resume import run_resume
from runs.services.retry import run_retry
from runs.steps.call import CallEnd, call_begin
from runs.steps.claim import step_claim
from runs.steps.finish import EndedCall, end_call, step_complete, step_fail, step_retry, step_return
from runs.storage import read
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.audit.audited import as_superuser
from tests.runs.driving import STEPS
from tests.runs.services.states import output_of

MakeRun = Callable[..., Run]
CLIENTS = 8
# 10,000 in `make chaos`.
ACTIONS_IN_ALL = 400 * int(os.environ.get("CHAOS_ROUNDS", "1"))
MUST_HAPPEN = {"complete", "pause", "resume", "retry", "retry from", "approve", "send back", "cancel"}
# Few, so that clients often act on the same run.
RUNS = 6
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1200)]

# What must never happen. Each query returns the ids of runs that break one rule.
RULES = {
    "completed, if and only if all steps are and there is no current one": """
        SELECT r.id FROM public.runs r
         WHERE (r.status = 'completed') <> (r.current_step IS NULL)
            OR (r.status = 'completed') <> NOT EXISTS (
               SELECT 1 FROM public.steps s WHERE s.run_id = r.id AND s.status <> 'completed')""",
    "a run says why it is paused, and only then": """
        SELECT id FROM public.runs
         WHERE num_nonnulls(pause_cause, paused_by, paused_at) <> CASE status WHEN 'paused' THEN 3 ELSE 0 END""",
    "a run fails with its current step, and no other step has failed": """
        SELECT r.id FROM public.runs r JOIN public.steps s ON s.run_id = r.id
         WHERE (s.status = 'failed') <> (r.status = 'failed' AND s.step = r.current_step)""",
    "only the current step is running, and only of a run that has not ended": """
        SELECT r.id FROM public.runs r JOIN public.steps s ON s.run_id = r.id
         WHERE s.status = 'running' AND (s.step <> r.current_step OR r.status NOT IN ('running', 'paused'))""",
    "steps before the current one are completed, and those after it pending": """
        SELECT r.id FROM public.runs r
          JOIN public.steps c ON c.run_id = r.id AND c.step = r.current_step
          JOIN public.steps s ON s.run_id = r.id
         WHERE s.position < c.position AND s.status <> 'completed'
            OR s.position > c.position AND s.status <> 'pending'
            OR s.position = c.position AND s.status = 'completed'""",
    "a step has an output, if and only if it is completed": """
        SELECT run_id FROM public.steps
         WHERE num_nonnulls(output_path, output_digest, summary, metrics, completed_at)
            <> CASE status WHEN 'completed' THEN 5 ELSE 0 END""",
    "a completed step has one current article, and no other step has any": """
        SELECT s.run_id FROM public.steps s
         WHERE (SELECT count(*) FROM public.artifacts a
                 WHERE a.run_id = s.run_id AND a.step = s.step AND a.file_path NOT LIKE '%%/versions/%%')
            <> CASE s.status WHEN 'completed' THEN 1 ELSE 0 END""",
    "each replaced version has its output and its article, and is an earlier one": """
        SELECT s.run_id FROM public.steps s JOIN public.artifacts a ON a.run_id = s.run_id AND a.step = s.step
         WHERE a.file_path LIKE '%%/versions/%%'
         GROUP BY s.run_id, s.id, a.metadata ->> 'version'
        HAVING count(*) <> 2 OR (a.metadata ->> 'version')::int >= s.version""",
    "a step that needs a review is not worked on before it is approved": """
        SELECT r.id FROM public.runs r JOIN public.steps s ON s.run_id = r.id AND s.step = r.current_step
         WHERE r.status IN ('pending', 'running') AND s.review AND s.approved_at IS NULL
            OR s.status = 'running' AND s.review AND s.approved_at IS NULL""",
    "a run that waits for a review waits before a step that needs one": """
        SELECT r.id FROM public.runs r JOIN public.steps s ON s.run_id = r.id AND s.step = r.current_step
         WHERE r.pause_cause = 'review' AND (NOT s.review OR s.approved_at IS NOT NULL OR s.status <> 'pending')""",
    "a step has a worker, if and only if it is running": """
        SELECT run_id FROM public.steps WHERE (status = 'running') <> (lease_expires_at IS NOT NULL)""",
    "what settled calls used is what their step used": """
        SELECT s.run_id FROM public.steps s
         WHERE coalesce((s.token_usage ->> 'output')::int, 0)
            <> (SELECT coalesce(sum((c.token_usage ->> 'output')::int), 0) FROM public.calls c
                 WHERE c.step_id = s.id AND c.status = 'settled')""",
}
# For each call, the last entry about its run that was committed before the call began. The statement that begins a call
# holds the run's row lock when this runs, and so does each transaction that pauses or ends the run until it commits.
WATCH = """
CREATE TABLE public.calls_watched (call_id integer, action text, status text);
CREATE FUNCTION public.watch_call() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO public.calls_watched
    SELECT NEW.id, action, details ->> 'status' FROM public.audit_logs
     WHERE resource_type = 'run' AND resource_id = NEW.run_id::text AND action <> 'run.read'
     ORDER BY sequence DESC LIMIT 1;
    RETURN NULL;
END $$;
CREATE TRIGGER watch_call AFTER INSERT ON public.calls FOR EACH ROW EXECUTE FUNCTION public.watch_call();
"""
STOPPED = ("run.pause", "run.cancel", "run.fail", "run.complete")


class Runs:
    """The runs that the clients act on. A run that is completed is replaced by a new one."""

    def __init__(self, tenant: Tenant, config: dict[str, object]) -> None:
        self._tenant = tenant
        self._config = config
        self._lock = threading.Lock()
        self.ids: list[UUID] = [self.new() for _number in range(RUNS)]

    def new(self) -> UUID:
        run = run_create(tenant_id=self._tenant.pk, config=self._config)
        with tenant_context(self._tenant) as alias:
            Step.objects.using(alias).filter(run=run, step__in=(STEPS[1], STEPS[3])).update(review=True)
        return run.pk

    def replace(self, ended: UUID) -> None:
        with self._lock:
            if ended in self.ids:
                self.ids[self.ids.index(ended)] = self.new()


class Client:
    """Acts at random, as a worker and as a person."""

    def __init__(self, tenant: Tenant, runs: Runs, seed: int) -> None:
        self._tenant = tenant
        self._runs = runs
        self._random = random.Random(seed)
        self.done: Counter[str] = Counter()

    def act(self, count: int) -> Counter[str]:
        """Act `count` times; return the number of accepted actions and of outcomes of work, by name."""
        self.done = Counter()
        try:
            for _number in range(count):
                run = self._random.choice(self._runs.ids)
                if self._random.random() < 0.4:
                    self._steer(run)
                else:
                    self.done[self._work(run)] += 1
        finally:
            connections["default"].close()
        return self.done

    def _steer(self, run_id: UUID) -> None:
        """Try a random action of a person on a run; count it in `done` if the run's state allows it."""
        people: dict[str, Callable[..., Run]] = {
            "pause": run_pause,
            "resume": run_resume,
            "retry": run_retry,
            "retry from": partial(run_retry, from_step=self._random.choice(STEPS)),
            "approve": run_approve,
            "send back": partial(run_send_back, comment="Shorter."),
            "cancel": run_cancel,
        }
        # Runs that are paused or failed continue soon, so that most of the time there is something to interleave with.
        (name,) = self._random.choices(list(people), (3, 6, 6, 1, 6, 2, 1))
        with suppress(RunStateConflict, InvalidRunStep):
            people[name](tenant_id=self._tenant.pk, run_id=run_id)
            self.done[name] += 1

    def _meddle(self, run_id: UUID) -> None:
        """Sometimes act as a person in the middle of a step, independently of the other clients' timing."""
        if self._random.random() < 0.2:
            self._steer(run_id)

    def _work(self, run_id: UUID) -> str:
        """Work on the run's current step, with a random result, or replace a completed run; return the outcome."""
        with tenant_context(self._tenant) as alias:
            step = Run.objects.using(alias).values_list("current_step", flat=True).get(pk=run_id)
            if step is None:
                self._runs.replace(run_id)
                return "replaced"
            claim = step_claim(
                alias=alias, tenant_id=self._tenant.pk, run_id=run_id, step=step, owner=threading.current_thread().name
            )
            if claim is None:
                return "not claimed"
            self._meddle(run_id)
            call_id = call_begin(alias=alias, claim=claim, max_input_tokens=100, max_output_tokens=100)
        self._meddle(run_id)
        end = CallEnd({"input": 3, "output": self._random.randint(1, 9)})
        outcome = "not begun" if call_id is None else self._random.choice(("complete",) * 7 + ("retry", "fail"))
        call = None if call_id is None else EndedCall(call_id, end)
        with tenant_context(self._tenant) as alias:
            try:
                if call is None:
                    step_return(alias=alias, claim=claim, reason="run paused")
                elif outcome == "retry":
                    step_retry(alias=alias, claim=claim, reason="busy", delay_s=0, call=call)
                elif outcome == "fail":
                    step_fail(alias=alias, claim=claim, reason="no", call=call)
                else:
                    output = output_of(alias, claim, call, f"Text {call.id}")
                    step_complete(alias=alias, claim=claim, output=output, llm_seconds=0, adopted=False, call=call)
            except LeaseLost:
                if call is not None:
                    end_call(alias, claim, call)
                return "lost"
        return outcome


@pytest.fixture
def watched(tenant: Tenant) -> Iterator[Tenant]:
    """Yield the tenant; with each call that begins, its database records the last audit entry about the call's run."""
    with as_superuser(tenant) as connection:
        connection.execute(WATCH)
    yield tenant
    with as_superuser(tenant) as connection:
        connection.execute("DROP FUNCTION public.watch_call CASCADE; DROP TABLE public.calls_watched")


def test_no_interleaving_leads_to_an_illegal_state_or_a_call_that_must_not_begin(
    watched: Tenant, make_run: MakeRun
) -> None:
    tenant, seed = watched, random.randrange(2**32)
    config = make_run(tenant).config
    assert config is not None
    clients = [Client(tenant, Runs(tenant, config), seed)]
    clients += [Client(tenant, clients[0]._runs, seed + number) for number in range(1, CLIENTS)]
    done = Counter[str]()
    with ThreadPoolExecutor(CLIENTS) as pool:
        # A seed may leave out an action that is rarely possible. Then the clients continue, since it was not tested.
        while not done or (MUST_HAPPEN - set(done) and done.total() < 20 * ACTIONS_IN_ALL):
            acting = [pool.submit(client.act, ACTIONS_IN_ALL // CLIENTS) for client in clients]
            done += sum((future.result() for future in acting), Counter[str]())
    print(f"seed {seed}: {dict(done)}")
    assert broken_rules(tenant) == {}, f"seed {seed}"
    assert calls_that_must_not_have_begun(tenant) == [], f"seed {seed}"
    read_every_file(tenant)
    assert set(done) >= MUST_HAPPEN, f"seed {seed}"


def broken_rules(tenant: Tenant) -> dict[str, list[str]]:
    with as_superuser(tenant) as connection:
        found = {rule: [str(run) for (run,) in connection.execute(query)] for rule, query in RULES.items()}
    return {rule: runs for rule, runs in found.items() if runs}


def calls_that_must_not_have_begun(tenant: Tenant) -> list[tuple[object, ...]]:
    with as_superuser(tenant) as connection:
        calls = connection.execute("SELECT count(*) FROM public.calls").fetchone()
        watched = connection.execute("SELECT call_id, action, status FROM public.calls_watched").fetchall()
    assert calls == (len(watched),) and watched
    return [call for call in watched if call[1] in STOPPED or call[2] == "paused"]


def read_every_file(tenant: Tenant) -> None:
    """Read the files that rows refer to; raise if one is missing or altered."""
    with tenant_context(tenant) as alias:
        for artifact in Artifact.objects.using(alias).all():
            read(artifact.file_path, artifact.digest)
        for step in Step.objects.using(alias).exclude(output_path=None):
            read(str(step.output_path), step.output_digest)
