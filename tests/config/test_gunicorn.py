"""The admin as it is served: gunicorn with threads, a real worker, and a broker between them."""

from __future__ import annotations

import re
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from http.cookiejar import CookieJar
from urllib.parse import urlencode, urlsplit

import psutil
import pytest
from celery import current_app
from django.conf import settings
from django.contrib.auth.models import User

from audit.models import AuditLog
from config import stack
from config.stack.lifecycle import WORKERS, find
from runs.messages.size_guard import GuardedAMQP
from runs.models import Run, RunStatus, Step
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.runs.conftest import fake_llm as fake_llm
from tests.runs.driving import PROVIDER, reload
from tests.runs.fake_llm import FakeLLM
from tests.runs.worker import wait_for
from tests.support.staff import PASSWORD

# Long enough that no sweep happens during a test.
NEVER_S = "86400"
AMQP_PORT = 5672
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


class Visitor:
    """A browser without scripts: it keeps cookies, sends forms with their CSRF token, and follows redirects."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

    def get(self, path: str) -> str:
        with self._opener.open(self._address + path) as response:
            return str(response.read().decode())

    def status(self, path: str) -> int:
        try:
            with self._opener.open(self._address + path) as response:
                return int(response.status)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return int(refusal.code)

    def submit(self, path: str, **fields: str) -> str:
        """Fill in and submit a page's form; return the page that the response leads to."""
        found = TOKEN.search(self.get(path))
        assert found, "no form"
        form = urlencode({"csrfmiddlewaretoken": found[1], **fields}).encode()
        with self._opener.open(self._address + path, form) as response:
            return str(response.read().decode())


@pytest.fixture
def served(stack_home: stack.Home, fake_llm: FakeLLM, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of the admin, served by the embedded stack beside a worker and beat, on a queue of their own."""
    monkeypatch.setenv("RUN_SWEEP_INTERVAL_S", NEVER_S)
    monkeypatch.setenv("CELERY_QUEUE", f"test-{uuid.uuid4().hex[:12]}")
    names = [service.name for service in WORKERS]
    stack.start(stack_home, names)
    try:
        yield f"http://127.0.0.1:{port_of(stack_home, 'web')}"
    finally:
        stack.stop(stack_home, names)


def port_of(home: stack.Home, name: str) -> int | None:
    return next(service.port for service in stack.status(home) if service.name == name)


def remote_ports(home: stack.Home, name: str) -> set[int]:
    """Return the ports that a service's processes are connected to, or are trying to connect to."""
    service = next(service for service in WORKERS if service.name == name)
    running, _port = find(home, service)
    assert running is not None
    processes = [running, *running.children(recursive=True)]
    connections = [one for process in processes for one in process.net_connections("tcp")]
    return {one.raddr.port for one in connections if one.raddr and one.status != psutil.CONN_NONE}


def test_a_run_started_in_the_admin_is_begun_by_its_wake_up(
    served: str, stack_home: stack.Home, superuser: User, tenant: Tenant
) -> None:
    visitor = Visitor(served)
    assert "Overview" in visitor.submit("/admin/login/", username=superuser.username, password=PASSWORD)
    models = f'{{"models": {{"keyword_analysis": {{"provider": "{PROVIDER}"}}}}, "steps": ["keyword_analysis"]}}'
    page = visitor.submit(f"/t/{tenant.id}/admin/runs/run/add/", keyword="tea", language="en", advanced=models)
    assert "The run was started." in page
    with tenant_context(tenant):
        run = Run.objects.get()
    wait_for(lambda: reload(tenant, run).status not in (RunStatus.PENDING, RunStatus.RUNNING))
    with tenant_context(tenant):
        step = Step.objects.get()
        claims = AuditLog.objects.filter(action="step.start").values_list("user_id", flat=True)
        assert reload(tenant, run).status == RunStatus.COMPLETED
        # A sweep counts each wake-up that it sends.
        assert (step.wake_count, step.wake_after, step.retry_count) == (0, None, 0)
        assert [user.split("@")[0] for user in claims] == ["worker:worker"]
    broker = urlsplit(settings.CELERY_BROKER_URL).port
    assert broker not in (None, AMQP_PORT)
    for name in ("web", "worker"):
        ports = remote_ports(stack_home, name)
        assert broker in ports and AMQP_PORT not in ports, name


def in_a_thread(look: Callable[[], object]) -> object:
    """Return what `look` returns in a thread that has not imported anything itself."""
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(look()))
    thread.start()
    thread.join()
    return found[0]


def test_every_thread_sends_to_the_broker_that_is_configured() -> None:
    assert in_a_thread(lambda: current_app.conf.broker_url) == settings.CELERY_BROKER_URL
    assert in_a_thread(lambda: current_app.connection_for_write().as_uri()) != "amqp://guest:**@localhost:5672//"
    assert in_a_thread(lambda: current_app.conf.task_default_queue) == settings.CELERY_TASK_DEFAULT_QUEUE


def test_every_thread_sends_through_the_guard() -> None:
    assert in_a_thread(lambda: isinstance(current_app.amqp, GuardedAMQP)) is True
