"""One command takes an installation from nothing to a prepared control database."""

import json
from pathlib import Path

from config import stack
from tests.support.program import seo_gen


def test_stack_start_in_a_fresh_home_leaves_everything_running_and_prepared(tmp_path: Path) -> None:
    home = stack.find_home(tmp_path / "home")
    try:
        started = seo_gen("stack", "start", "--json", SEO_GEN_HOME=str(home.path))
        assert started.returncode == 0, started.stderr
        document = json.loads(started.stdout)
        assert document["started"] == [name for name in stack.NAMES if name != "llm"]  # tests run the LLM elsewhere
        assert document["web"].startswith("http://127.0.0.1:")
        created = seo_gen("tenant", "create", "--name", "First", "--json", SEO_GEN_HOME=str(home.path))
        assert json.loads(created.stdout)["status"] == "active", created.stderr
    finally:
        stack.stop(home)
