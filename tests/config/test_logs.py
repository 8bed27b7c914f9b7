"""The log: one line per event with its context, and a traceback after errors, but no secrets."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User

from config import logs, stack
from config.stack.lifecycle import WORKERS
from config.stack.paths import CHECKOUT
from runs.models import Run
from tenants.models import Tenant
from tests.config.test_gunicorn import NEVER_S, Visitor, port_of
from tests.runs.conftest import fake_provider
from tests.runs.conftest import make_run as make_run
from tests.runs.conftest import run as run
from tests.runs.driving import reload
from tests.runs.fake_llm import Answer, FakeLLM
from tests.runs.worker import wait_for
from tests.support import preloaded
from tests.support.program import seo_gen
from tests.support.staff import PASSWORD, give_role, make_user

NAMES = [service.name for service in WORKERS]
SECRET = "sk-very-secret-value"


def record(message: str = "step failed", *args: object, level: int = logging.ERROR, **extra: object) -> Any:
    found = logging.LogRecord("runs.steps.execute", level, __file__, 1, message, args, None)
    vars(found).update(extra)
    return found


def raised() -> Any:
    try:
        raise ValueError("first\nsecond postgresql://ann:hidden@db/x")
    except ValueError:
        return sys.exc_info()


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> logging.Formatter:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    return logs.PlainFormatter()


@pytest.fixture
def as_json(monkeypatch: pytest.MonkeyPatch) -> logging.Formatter:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    return logs.JSONFormatter()


# -- formats -------------------------------------------------------------------------------------------------------


def test_a_plain_line_ends_with_pairs(plain: logging.Formatter) -> None:
    line = plain.format(record(tenant="tenant-a", attempt=2, error="LLMError", nothing=None, request=object()))
    assert line.endswith(" ERROR runs.steps.execute step failed tenant=tenant-a attempt=2 error=LLMError")


@pytest.mark.parametrize("value", ["two words", "a=b", 'quo"te', "line\nbreak", "", "it's", "tab\t", "\x1b[31m"])
def test_a_value_that_is_not_one_word_is_quoted(plain: logging.Formatter, value: str) -> None:
    line = plain.format(record(path=value))
    assert len(line.splitlines()) == 1
    assert json.loads(line.split("path=", 1)[1]) == value


@pytest.mark.parametrize("text", ["a\nERROR forged tenant=x", "a\rb", "a\u2028b", "a\x1b[2Jb", "a\x00b"])
def test_a_message_is_one_line(plain: logging.Formatter, as_json: logging.Formatter, text: str) -> None:
    assert len(plain.format(record("%s", text)).splitlines()) == 1
    document = as_json.format(record("%s", text))
    assert json.loads(document)["message"] == text and "\n" not in document


def test_a_json_line_is_one_object(as_json: logging.Formatter) -> None:
    run_id = uuid4()
    document = json.loads(
        as_json.format(record("日本 %s", "語", run_id=run_id, attempt=2, ratio=0.5, exc_info=raised()))
    )
    assert document["message"] == "日本 語" and document["level"] == "ERROR"
    assert (document["run_id"], document["attempt"], document["ratio"]) == (str(run_id), 2, 0.5)
    assert document["traceback"].startswith("Traceback") and "hidden" not in document["traceback"]


def test_no_extra_replaces_what_every_line_has(as_json: logging.Formatter) -> None:
    document = json.loads(as_json.format(record(level_name="x", time="never", logger="forged")))
    assert (document["logger"], document["level"]) == ("runs.steps.execute", "ERROR")
    assert document["time"] != "never"


def test_a_traceback_follows_an_error_alone(plain: logging.Formatter) -> None:
    error = plain.format(record(exc_info=raised())).splitlines()
    assert error[1].startswith("Traceback")
    warning = plain.format(record(level=logging.WARNING, exc_info=raised()))
    assert len(warning.splitlines()) == 1 and 'exception="ValueError: first\\nsecond' in warning


def test_secrets_are_masked_wherever_they_stand(plain: logging.Formatter, as_json: logging.Formatter) -> None:
    text = f"redis://:pass-word@x@host/0 {SECRET}"
    for formatter in (plain, as_json):
        line = formatter.format(record("%s", text, address=text, exc_info=raised()))
        assert SECRET not in line and "pass-word" not in line and "hidden" not in line
        assert "redis://***@host/0 ***" in line


@pytest.mark.parametrize(("name", "value"), [("LOG_FORMAT", "xml"), ("LOG_LEVEL", "LOUD")])
def test_an_unknown_log_setting_is_one_sentence(name: str, value: str) -> None:
    refused = seo_gen("tenant", "list", **{name: value})
    assert (refused.returncode, refused.stdout) == (1, "")
    assert (
        refused.stderr.startswith(f"{name} is invalid: '{value}'. Use one of ")
        and len(refused.stderr.splitlines()) == 1
    )


# -- processes -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=logs.FORMATS)
def log_format(request: pytest.FixtureRequest) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOG_FORMAT", request.param)
        yield request.param


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeLLM]:
    """A provider that all tests share: workers get its key, and permission to call its host, when they start."""
    with pytest.MonkeyPatch.context() as patch, fake_provider(patch) as fake:
        yield fake


@pytest.fixture
def fake_llm(provider: FakeLLM) -> FakeLLM:
    return provider


@pytest.fixture(scope="module")
def running(stack_home: stack.Home, provider: FakeLLM, log_format: str) -> Iterator[stack.Home]:
    """Worker, beat and web server, whose logs were empty when they started."""
    for name in NAMES:
        stack_home.log_file(name).unlink(missing_ok=True)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RUN_SWEEP_INTERVAL_S", NEVER_S)
            stack.start(stack_home, NAMES)
        yield stack_home
    finally:
        stack.stop(stack_home, NAMES)


def lines(home: stack.Home, service: str) -> list[str]:
    return home.log_file(service).read_text().splitlines()


def having(home: stack.Home, service: str, log_format: str, **wanted: object) -> list[str]:
    """Return the lines of the service's log that have all the `wanted` values."""
    return [line for line in lines(home, service) if all(_holds(line, log_format, *one) for one in wanted.items())]


def _holds(line: str, log_format: str, name: str, value: object) -> bool:
    if log_format == "json":
        return bool(json.loads(line).get(name) == value)
    return f" {name}={value} " in f"{line} "


def is_a_line(line: str, log_format: str) -> bool:
    if log_format == "json":
        return {"time", "level", "logger", "message"} <= set(json.loads(line))
    return line.split(" ", 2)[1] in logs.LEVELS


def test_a_worker_says_which_step_failed(
    running: stack.Home, log_format: str, fake_llm: FakeLLM, run: Run, tenant: Tenant
) -> None:
    fake_llm.answers.append(Answer(status=400, text="no"))
    wait_for(lambda: reload(tenant, run).status == "failed")
    known = {"tenant": tenant.id, "run_id": str(run.pk), "step": "keyword_analysis", "attempt": 1}
    wait_for(lambda: bool(having(running, "worker", log_format, action="step.fail", **known)))
    [line] = having(running, "worker", log_format, action="step.fail", **known)
    assert "step failed" in line
    for name in ("error", "operation", "actor"):
        assert f'"{name}": "' in line or f" {name}=" in line
    # Its messages at exit are part of the log too. (No other test needs it.)
    stack.stop(running, ["worker"])
    assert any("Warm shutdown" in one for one in lines(running, "worker"))
    assert all(is_a_line(one, log_format) for one in lines(running, "worker"))


def test_beat_and_the_web_server_log_as_the_worker_does(running: stack.Home, log_format: str) -> None:
    for name in ("beat", "web"):
        wait_for(lambda name=name: bool(lines(running, name)))  # type: ignore[misc]
        assert all(is_a_line(line, log_format) for line in lines(running, name)), name


def test_a_request_is_one_line(running: stack.Home, log_format: str, tenant: Tenant) -> None:
    """Refused requests, too, have one line and no traceback, whatever refused them; no line has the query string."""
    user = make_user(is_superuser=False)
    give_role(user, "viewer")
    visitor = Visitor(f"http://127.0.0.1:{port_of(running, 'web')}")
    visitor.submit("/admin/login/", username=user.username, password=PASSWORD)
    refused = f"/t/{tenant.id}/admin/runs/run/add/"
    pages = {"/admin/password_change/": 200, refused: 403, "/nowhere/": 404}
    for path, status in pages.items():
        assert visitor.status(f"{path}?secret=query") == status
    for path, status in pages.items():
        wait_for(lambda path=path: bool(having(running, "web", log_format, path=path)))  # type: ignore[misc]
        found = having(running, "web", log_format, path=path, status=status, method="GET")
        assert len(found) == 1 == len([line for line in lines(running, "web") if path in line])
        assert having(running, "web", log_format, path=path, user_id=user.pk) or path == "/nowhere/"
    assert having(running, "web", log_format, path=refused, tenant=tenant.id)
    assert all(is_a_line(line, log_format) for line in lines(running, "web"))
    assert "secret=query" not in running.log_file("web").read_text()
    User.objects.filter(pk=user.pk).delete()


def test_a_command_logs_on_stderr_in_the_same_form(log_format: str) -> None:
    script = "import logging; logging.getLogger('ours').warning('seen', extra={'tenant': 'a', 'attempt': 3})"
    done = preloaded.run(
        [sys.executable, "manage.py", "shell", "--verbosity", "0", "--command", script],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    [line] = done.stderr.splitlines()
    assert is_a_line(line, log_format) and done.stdout == ""
    assert _holds(line, log_format, "tenant", "a") and _holds(line, log_format, "attempt", 3)


def test_logs_are_for_the_owners_group_alone(running: stack.Home, tmp_path: Path) -> None:
    folder = running.log_file("any").parent
    assert folder.stat().st_mode & 0o777 == 0o750
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert {"postgres.log", "valkey.log", "worker.log", "beat.log", "web.log"} <= set(modes)
    assert set(modes.values()) == {0o640}


def test_a_log_that_everybody_could_read_is_closed(tmp_path: Path) -> None:
    from config.stack.process import _open_log

    log = tmp_path / "worker.log"
    log.write_text("before\n")
    log.chmod(0o644)
    before = os.umask(0o077)
    try:
        with os.fdopen(_open_log(log), "ab") as output:
            output.write(b"after\n")
    finally:
        os.umask(before)
    assert (log.stat().st_mode & 0o777, log.read_text()) == (0o640, "before\nafter\n")
