"""The processes that render: what they can access, how they end, and how they are shared."""

import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from jinja2 import Environment

from config.stack.paths import CHECKOUT
from config.stack.process import wait_until
from prompts import sandbox
from prompts.errors import PromptRenderError, SandboxUnavailable
from prompts.rendering import names_used, render
from prompts.types import PromptVariable

pytestmark = [pytest.mark.timeout(60), pytest.mark.unit]

KEYWORD = PromptVariable(name="keyword", type="string")
PATIENCE_S = 30.0
FILTERS, TESTS = sorted(Environment().filters), sorted(Environment().tests)
MISSES_A_FILE = re.compile(r"\.py|Import|ModuleNotFound|OSError|FileNotFound|LookupError")


def rendered(content: str, keyword: str = "tea") -> str:
    return render(content, [KEYWORD], {"keyword": keyword}, prompt="7 (draft v2)")


def outcome(content: str) -> str:
    try:
        return rendered(content)
    except PromptRenderError as error:
        return str(error)


def running() -> psutil.Process:
    """Return a sandbox process; start one if there is none."""
    rendered("{{ keyword }}")
    return psutil.Process(sandbox.pids()[0])


def test_the_process_has_no_environment_and_none_of_our_descriptors() -> None:
    with Path(os.devnull).open() as inherited:
        os.set_inheritable(inherited.fileno(), True)
        for pid in sandbox.pids():
            os.kill(pid, signal.SIGKILL)
        process = running()
    assert process.environ() == {}
    assert sorted(int(name) for name in os.listdir(f"/proc/{process.pid}/fd")) == [0, 1, 2]


def test_the_program_imports_only_jinja2_and_the_standard_library() -> None:
    loaded = subprocess.run(
        [
            *(sys.executable, "-I", "-c"),
            "import runpy, sys; runpy.run_path(sys.argv[1]); print(*{name.partition('.')[0] for name in sys.modules})",
            str(sandbox.PROGRAM),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    bare = subprocess.run(
        [sys.executable, "-I", "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert set(loaded) - set(bare) - sys.stdlib_module_names == {"jinja2", "markupsafe"}


@pytest.mark.parametrize("content", ["{{ 'é' | NAME }}", "{{ [1, 2] | NAME }}", "{{ keyword | NAME(3) }}"])
def test_no_filter_needs_a_file_that_was_not_opened_before(content: str) -> None:
    """The child cannot open files, so what Jinja2 imports on first use must have been imported before."""
    outcomes = {name: outcome(content.replace("NAME", name)) for name in FILTERS}
    assert {name: text for name, text in outcomes.items() if MISSES_A_FILE.search(text)} == {}


def test_no_test_needs_a_file_that_was_not_opened_before() -> None:
    outcomes = {name: outcome(f"{{{{ keyword is {name} }}}}") for name in TESTS if name.isidentifier()}
    assert {name: text for name, text in outcomes.items() if MISSES_A_FILE.search(text)} == {}


def test_one_process_serves_many_templates() -> None:
    process = running()
    with pytest.raises(PromptRenderError, match="It takes too long"):
        rendered("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}")
    assert rendered("{{ keyword }}") == "tea"
    assert process.is_running()
    assert process.children() == []


def test_a_template_leaves_nothing_behind_for_the_next() -> None:
    """Each template is rendered in its own child, which has only that template's values."""
    assert rendered("{% set kept = keyword %}{{ kept }}", "secret") == "secret"
    with pytest.raises(PromptRenderError, match="'kept' is undefined"):
        rendered("{{ keyword }}{{ kept }}")


def test_many_threads_share_a_few_processes_and_get_their_own_answers() -> None:
    with ThreadPoolExecutor(16) as threads:
        texts = list(threads.map(lambda number: rendered("<{{ keyword }}>", f"word {number}"), range(200)))
    assert texts == [f"<word {number}>" for number in range(200)]
    assert len(sandbox.pids()) <= sandbox.SANDBOXES_MAX


def test_a_process_killed_while_idle_is_replaced_without_a_zombie() -> None:
    first, killed = running(), set(sandbox.pids())
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    assert rendered("{{ keyword }}") == "tea"
    assert first.pid not in sandbox.pids()
    # Ignore other tests' children.
    assert not killed & {child.pid for child in psutil.Process().children()}


def test_signals_for_the_worker_leave_the_process_alone() -> None:
    process = running()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        process.send_signal(number)
    assert rendered("{{ keyword }}") == "tea"
    assert process.is_running()


def test_a_silent_process_is_the_machines_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unlike after a template's own fault, the step is then retried."""
    monkeypatch.setattr(sandbox, "GRACE_S", 0.0)
    monkeypatch.setattr(sandbox, "LIMITS", sandbox.Limits(wall_s=0.2))
    monkeypatch.setattr(sandbox, "PROGRAM", Path(__file__).with_name("silent_program.py"))
    for pid in sandbox.pids():
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(SandboxUnavailable, match="did not answer"):
        rendered("{{ keyword }}")
    assert sandbox.pids() == []


def test_a_template_that_got_no_cpu_time_is_not_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "LIMITS", sandbox.Limits(cpu_s=1.0, wall_s=0.02))
    with pytest.raises(SandboxUnavailable, match="ended without a result"):
        rendered("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}")


def test_a_forked_child_starts_its_own_process_and_drops_its_parents() -> None:
    theirs = running().pid
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            text = rendered("{{ keyword }}")
            os.write(writer, json.dumps([text, sandbox.pids(), os.listdir("/proc/self/fd")]).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text, pids, _descriptors = json.load(answer)
    os.waitpid(child, 0)
    assert text == "tea"
    assert theirs not in pids
    assert wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids), PATIENCE_S)
    assert rendered("{{ keyword }}") == "tea"


STARTS_AND_FORKS = """
import os, signal, sys
from django.conf import settings
settings.configure(USE_I18N=False)
from prompts import sandbox
from prompts.rendering import render
render("x", (), {}, prompt="")
print(*sandbox.pids(), flush=True)
if not os.fork():
    print(os.getpid(), flush=True)
    signal.pause()
signal.pause()
"""


def test_the_process_ends_with_the_one_that_started_it_however_that_ends() -> None:
    """It ends even if the one that started it has forked a child that is still running, such as a pool worker."""
    parent = subprocess.Popen([sys.executable, "-c", STARTS_AND_FORKS], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid, child = int(parent.stdout.readline()), int(parent.stdout.readline())
    try:
        parent.kill()
        parent.wait()
        assert wait_until(lambda: not psutil.pid_exists(pid), PATIENCE_S)
        assert psutil.pid_exists(child)
    finally:
        os.kill(child, signal.SIGKILL)
        parent.stdout.close()


def test_an_answer_is_cached_only_if_it_depends_on_the_template(monkeypatch: pytest.MonkeyPatch) -> None:
    content = "{{ only_here }}"
    monkeypatch.setattr(sandbox, "LIMITS", sandbox.Limits(wall_s=1e-6))
    with pytest.raises(SandboxUnavailable):
        names_used(content)
    monkeypatch.undo()
    assert names_used(content) == {"only_here"}
