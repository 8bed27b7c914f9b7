"""`run show --follow` in a terminal, in a pipe and with --json; it ends once the run has ended or is paused."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pytest
from django.db.models.functions import Now

from audit.models import AuditLog
from config.stack.paths import CHECKOUT
from runs.models import PauseCause, Run, RunStatus
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.runs.driving import STEPS, execute, finish
from tests.runs.fake_llm import Answer, FakeLLM
from tests.support import preloaded
from tests.support.program import PROGRAM

WAIT_S = 60.0
SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"


def words(tenant: Tenant, run: Run, *more: str) -> list[str]:
    return [*PROGRAM, "run", "show", "--tenant-id", tenant.pk, "--run-id", str(run.pk), "--follow", *more]


def pause(tenant: Tenant, run: Run) -> None:
    with tenant_context(tenant) as alias:
        Run.objects.using(alias).filter(pk=run.pk).update(
            status=RunStatus.PAUSED, pause_cause=PauseCause.PERSON, paused_by="operator:ann", paused_at=Now()
        )


class Follower:
    """A process that follows a run, and the output that was read from it."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self.shown = ""

    def until(self, wanted: str) -> str:
        """Read until the pattern appears in new output, and return that output; fail if it does not appear."""
        start, deadline = len(self.shown), time.monotonic() + WAIT_S
        while not re.search(wanted, self.shown[start:]):
            if time.monotonic() > deadline or not self._read():
                pytest.fail(f"{wanted!r} is not shown: {self.shown[start:]!r}")
        return self.shown[start:]

    def ended(self) -> int:
        """Read the rest, and return the exit status."""
        while self._read():
            pass
        return self.process.wait(WAIT_S)

    def _read(self) -> bool:
        if not select.select([self._descriptor], [], [], WAIT_S)[0]:
            return False
        try:
            chunk = os.read(self._descriptor, 65536)
        except OSError:  # EIO: the other end of the terminal is closed
            return False
        self.shown += chunk.decode()
        return bool(chunk)


@contextmanager
def at_terminal(tenant: Tenant, run: Run) -> Iterator[Follower]:
    ours, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "140", "LINES": "40"}
    process = preloaded.Popen(
        words(tenant, run), cwd=CHECKOUT, env=environment, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    yield from _following(process, ours)
    os.close(ours)


@contextmanager
def piped(tenant: Tenant, run: Run) -> Iterator[Follower]:
    process = preloaded.Popen(
        words(tenant, run), cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    out: IO[bytes] | None = process.stdout
    assert out is not None
    with out:
        yield from _following(process, out.fileno())


def _following(process: subprocess.Popen[bytes], descriptor: int) -> Iterator[Follower]:
    try:
        yield Follower(process, descriptor)
    finally:
        process.kill()
        process.wait()


def readings(tenant: Tenant) -> int:
    with tenant_context(tenant) as alias:
        return AuditLog.objects.using(alias).filter(action="run.read").count()


# -- without a terminal ------------------------------------------------------------------------------------------------


def test_each_event_is_one_line(tenant: Tenant, run: Run, fake_llm: FakeLLM) -> None:
    with piped(tenant, run) as follower:
        follower.until(rf"run {run.pk} of tenant {tenant.pk} was created\n.*waiting for a worker")
        execute(tenant, run, STEPS[0])
        follower.until(r"keyword_analysis: completed after \d+\.\d s \(tokens: 1000 in, 200 out\)\n")
        finish(tenant, run)
        assert follower.ended() == 0
    lines = follower.shown.splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d \S+  \S", line) for line in lines), lines
    for step in STEPS:
        [started] = [number for number, line in enumerate(lines) if f"{step}: attempt 1 started (openai/" in line]
        [completed] = [number for number, line in enumerate(lines) if f"{step}: completed after " in line]
        assert started < completed
    assert re.search(r"the run was completed; cost: USD \d", lines[-1])
    assert readings(tenant) == 1, "one entry for the whole watch"


def test_a_failed_run_ends_with_1_and_the_reason(tenant: Tenant, run: Run, fake_llm: FakeLLM) -> None:
    fake_llm.answers.append(Answer(status=400, text="no such model"))
    with piped(tenant, run) as follower:
        follower.until("waiting for a worker")
        execute(tenant, run, STEPS[0])
        assert follower.ended() == 1
    assert re.search(r"keyword_analysis: failed: .*no such model", follower.shown)
    assert "the run failed; cost: USD 0.000000" in follower.shown
    reason = follower.shown.splitlines()[-1]
    assert reason.startswith(f"Run {run.pk} of tenant {tenant.pk} failed in step keyword_analysis: ")


def test_a_retry_is_an_event(tenant: Tenant, run: Run, fake_llm: FakeLLM) -> None:
    fake_llm.answers.append(Answer(status=503, text="busy", headers={"Retry-After": "3600"}))
    with piped(tenant, run) as follower:
        follower.until("waiting for a worker")
        execute(tenant, run, STEPS[0])
        shown = follower.until(r"retry at .*\n")
        assert re.search(r"keyword_analysis: attempt 1 failed: .*503", shown)


def test_a_paused_run_is_not_followed_any_further(tenant: Tenant, run: Run) -> None:
    with piped(tenant, run) as follower:
        follower.until("waiting for a worker")
        pause(tenant, run)
        assert follower.ended() == 0
    paused, end = follower.shown.splitlines()[-2:]
    assert "paused by operator:ann at " in paused
    assert "the run is paused, so it is no longer followed; cost so far: " in end


def test_the_document_is_printed_at_the_end_and_alone(tenant: Tenant, run: Run) -> None:
    finish(tenant, run)
    ended = preloaded.run(words(tenant, run, "--json"), cwd=CHECKOUT, capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
    document = json.loads(ended.stdout)
    assert (document["id"], document["status"]) == (str(run.pk), "completed")
    assert readings(tenant) == 1


def test_ctrl_c_ends_it_without_a_word(tenant: Tenant, run: Run) -> None:
    with piped(tenant, run) as follower:
        before = follower.until("waiting for a worker.*\n")
        follower.process.send_signal(signal.SIGINT)
        assert follower.ended() == 130
    assert follower.shown == before


# -- in a terminal -----------------------------------------------------------------------------------------------------


def test_a_table_is_redrawn_and_replaced_by_the_final_one(tenant: Tenant, run: Run) -> None:
    with at_terminal(tenant, run) as follower:
        first = follower.until("Cost: ")
        assert HIDE_CURSOR in first and "Why it is waiting: waiting for a worker" in first
        execute(tenant, run, STEPS[0])
        follower.until(r"keyword_analysis +completed")
        finish(tenant, run)
        assert follower.ended() == 0
    end = follower.shown.rpartition(SHOW_CURSOR)[2]
    assert f"Run {run.pk} of tenant {tenant.pk}: completed" in end
    assert "article.md" in end and "Cost: USD" in end


def test_ctrl_c_in_a_terminal_gives_it_back(tenant: Tenant, run: Run) -> None:
    with at_terminal(tenant, run) as follower:
        follower.until("Cost: ")
        follower.process.send_signal(signal.SIGINT)
        assert follower.ended() == 130
    assert follower.shown.rindex(SHOW_CURSOR) > follower.shown.rindex(HIDE_CURSOR)
    assert "Traceback" not in follower.shown
