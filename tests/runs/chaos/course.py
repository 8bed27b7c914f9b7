"""The course of a chaos run: set up, chaos, rest, checks."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management import call_command
from django.db import connections

from config import stack
from config.stack.process import wait_until
from llm.models import LLMProvider
from prompts.services import prompt_activate, prompt_create
from runs.steps.sweep import runs_sweep
from tenants.lifecycle.create import tenant_create
from tenants.routing.context import tenant_context
from tests.runs.chaos.checks import check
from tests.runs.chaos.disturb import Disturber
from tests.runs.chaos.people import PROVIDER, Person, Records
from tests.runs.chaos.plan import LEASE_S, STEPS, TIMES, Plan
from tests.runs.chaos.provider import Moody, mark
from tests.runs.chaos.rabbit import Rabbit
from tests.runs.chaos.report import Report, tracebacks_of
from tests.runs.chaos.rest import bring_to_rest, wait_for_calls, wait_for_turns
from tests.runs.chaos.system import PATIENCE_S, System
from tests.runs.fake_llm import FakeLLM

# A call whose worker is gone is given up after its timeout and a lease, by the next sweep.
GIVEN_UP_S = 3 * (TIMES["LLM_TIMEOUT_S"] + LEASE_S)


def run(plan: Plan, home: stack.Home) -> Report:
    report = Report()
    call_command("control_setup", verbosity=0)
    fake = FakeLLM()
    try:
        allow(fake)
        moody = Moody(fake, faults=plan.faults, seed=plan.seed)
        with _timed(report, "set up"):
            tenant_ids = [_tenant(f"chaos {number}") for number in range(plan.tenants)]
        return _run(plan, home, tenant_ids, moody, report)
    finally:
        fake.close()


def _run(plan: Plan, home: stack.Home, tenant_ids: list[str], moody: Moody, report: Report) -> Report:
    system, records = System(home, plan), Records()
    try:
        with _timed(report, "start"):
            workers = [system.start_worker() for _number in range(plan.workers)]
            system.start_beat()
            wait_until(lambda: all((home.path / f"{one.name}.ready").exists() for one in workers), PATIENCE_S)
        disturber = Disturber(system, _rabbit(plan), seed=plan.seed)
        with _timed(report, "chaos"):
            _chaos(plan, tenant_ids, records, moody, disturber)
        system.keep_up()
        with _timed(report, "rest"):
            _rest(plan, tenant_ids, records, moody)
            system.stop()
            wait_for_turns(limit_s=2 * LEASE_S)
            # The runs that ended last may not have been summarized yet.
            runs_sweep()
        with _timed(report, "checks"):
            report.findings = check(tenant_ids, records, moody, system)
    finally:
        system.kill_all()
        if plan.logs:
            system.copy_logs(Path(plan.logs))
        connections.close_all()
    report.disturbances, report.workers_started = disturber.counts, len(system.members)
    report.deeds, report.suspensions, report.ledger = records.deeds, records.suspensions, moody.ledger
    report.tracebacks = tracebacks_of(one.log.read_text(errors="replace") for one in system.members)
    return report


def _chaos(plan: Plan, tenant_ids: list[str], records: Records, moody: Moody, disturber: Disturber) -> None:
    deadline = time.monotonic() + plan.seconds
    shares = [plan.runs // plan.people + (number < plan.runs % plan.people) for number in range(plan.people)]
    people = [
        Person(f"person {plan.seed} {number}", records, tenant_ids, runs=share, over_s=0.8 * plan.seconds)
        for number, share in enumerate(shares)
    ]
    for person in people:
        person.start()
    # A worker's first call is slow: it imports the provider's SDK.
    wait_until(lambda: bool(moody.ledger), PATIENCE_S)
    disturber.start()
    try:
        disturber.stop_after(deadline)
    finally:
        for person in people:
            person.stop()


def _rest(plan: Plan, tenant_ids: list[str], records: Records, moody: Moody) -> None:
    moody.calm_down()
    connections.close_all()  # the server on their other end may be gone
    bring_to_rest(records, tenant_ids, limit_s=plan.rest_s)
    wait_for_calls(tenant_ids, limit_s=GIVEN_UP_S)
    wait_until(moody.is_settled, GIVEN_UP_S)


def allow(fake: FakeLLM) -> None:
    """Direct the provider's calls to the fake, in this process and in those that it starts."""
    LLMProvider.objects.filter(pk=PROVIDER).update(api_base_url=fake.url)
    entry = urlsplit(fake.url).netloc
    os.environ.update(OPENAI_API_KEY="sk-test", LLM_ALLOWED_HOSTS=entry)
    settings.LLM_ALLOWED_HOSTS = [entry]


def _tenant(name: str) -> str:
    """Create a tenant whose prompts begin with the run and step and contain the previous output; return its id."""
    tenant = tenant_create(name=name)
    with tenant_context(tenant) as alias:
        for before, step in zip((None, *STEPS), STEPS, strict=False):
            names = ["keyword", *([before] if before else [])]
            content = "\n".join([mark("{{ keyword }}", step), *(f"{{{{ {name} }}}}" for name in names)])
            variables: list[dict[str, object]] = [{"name": name, "type": "string", "required": True} for name in names]
            prompt = prompt_create(alias=alias, step=step, content=content, variables=variables, note="for the course")
            prompt_activate(alias=alias, prompt_id=prompt.pk)
    return tenant.pk


def _rabbit(plan: Plan) -> Rabbit | None:
    return Rabbit(plan.amqp.rpartition("/")[2]) if plan.amqp else None


@contextmanager
def _timed(report: Report, name: str) -> Iterator[None]:
    begun = time.monotonic()
    yield
    report.seconds[name] = time.monotonic() - begun
