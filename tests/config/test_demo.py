"""The demo with real servers: from scratch with a fake LLM, then in the same home with the local LLM."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import requests

from config import stack
from config.stack import process
from config.stack.paths import CHECKOUT
from tests.runs.fake_llm import FakeLLM
from tests.support.environment import CLEARED
from tests.support.servers import ELSEWHERE

pytestmark = pytest.mark.timeout(900)
DEMO = [sys.executable, "-c", "import sys; from config.cli import main; sys.exit(main())", "demo"]


@pytest.fixture(scope="module")
def home() -> Iterator[stack.Home]:
    with tempfile.TemporaryDirectory(prefix="seo-gen-demo-") as folder:
        home = stack.find_home(folder)
        yield home
        stack.stop(home)


@pytest.fixture
def quick_llm() -> Iterator[str]:
    """The address of an LLM that answers immediately, in place of the local one."""
    fake = FakeLLM()
    yield fake.url
    fake.close()


def environment(home: stack.Home, **further: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in CLEARED}
    return {**kept, "SEO_GEN_HOME": str(home.path), **further}


@pytest.fixture
def short_answers(home: stack.Home) -> None:
    """Limit the answers of the local LLM, which take most of the demo's time, to 16 tokens."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ELSEWHERE.items():
            patch.setenv(name, value)
        stack.ensure_started(home)
        url = stack.settings_from_stack(home)["DATABASE_OWNER_URL"]
    with psycopg.connect(url) as control:
        control.execute("UPDATE llm_models SET max_output_tokens = 16 WHERE provider_id = 'local'")
    stack.stop(home)


def test_json_is_one_document_of_two_finished_runs(home: stack.Home, quick_llm: str) -> None:
    ended = subprocess.run(
        [*DEMO, "--no-serve", "--json"],
        cwd=CHECKOUT,
        env=environment(home, LOCAL_LLM_URL=quick_llm),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    document = json.loads(ended.stdout)
    assert [tenant["id"] for tenant in document["tenants"]] == ["demo-a", "demo-b"]
    assert [run["tenant_id"] for run in document["runs"]] == ["demo-a", "demo-b"]
    for run in document["runs"]:
        assert run["status"] == "completed"
        assert len(run["steps"]) >= 4
        assert {step["status"] for step in run["steps"]} == {"completed"}
        for step in run["steps"]:
            content = (home.path / step["output_path"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == step["output_digest"].removeprefix("sha256:")
            assert step["token_usage"]["input"] > 0
            assert step["token_usage"]["output"] > 0
        usage = [step["token_usage"] for step in run["steps"]]
        assert run["cost"]["total_input_tokens"] == sum(step["input"] for step in usage)
        assert run["cost"]["total_output_tokens"] == sum(step["output"] for step in usage)
        article = home.path / Path(run["steps"][-1]["output_path"]).parent / "artifacts" / "article.md"
        assert article.read_text().strip()
    assert _left_running(home) == []


@pytest.mark.usefixtures("short_answers")
def test_a_second_one_makes_new_runs_and_serves_until_interrupted(home: stack.Home) -> None:
    with subprocess.Popen(DEMO, cwd=CHECKOUT, env=environment(home), stdout=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stdout
            shown = _read_until(demo.stdout, "Ctrl-C")
            address, username, password = (_value(shown, name) for name in ("Admin", "Login", "Password"))
            assert shown.count(": completed") == 2
            assert "article.md" in shown
            assert _logs_in(address, username, password)
            demo.send_signal(signal.SIGINT)
            assert demo.wait(60) == 0
        finally:
            demo.kill()
    assert _left_running(home) == []
    runs = list((home.path / "storage" / "demo-a").iterdir())
    assert len(runs) == 2


def test_being_terminated_stops_what_was_started(home: stack.Home, quick_llm: str) -> None:
    settings = environment(home, LOCAL_LLM_URL=quick_llm)
    with subprocess.Popen(DEMO, cwd=CHECKOUT, env=settings, stdout=subprocess.PIPE, text=True) as demo:
        try:
            assert process.wait_until(lambda: "worker" in _left_running(home), 120, step_s=0.2)
            demo.send_signal(signal.SIGTERM)
            assert demo.wait(60) == 130
        finally:
            demo.kill()
    assert _left_running(home) == []


def _left_running(home: stack.Home) -> list[str]:
    return [service.name for service in stack.status(home) if service.state == "running"]


def _read_until(stream: Iterator[str], text: str) -> str:
    lines = []
    for line in stream:
        lines.append(line)
        if text in line:
            break
    return "".join(lines)


def _value(shown: str, name: str) -> str:
    found = re.search(rf"^{name}:\s+(\S+)$", shown, re.MULTILINE)
    assert found, shown
    return found[1]


def _logs_in(address: str, username: str, password: str) -> bool:
    with requests.Session() as browser:
        page = browser.get(address, timeout=30)
        token = browser.cookies["csrftoken"]
        form = {"username": username, "password": password, "csrfmiddlewaretoken": token}
        inside = browser.post(page.url, data=form, headers={"Referer": page.url}, timeout=30)
    return inside.ok and "/login/" not in inside.url
