"""One command takes an installation from nothing to a prepared control database."""

import json
from pathlib import Path

from django.apps import apps

from config import stack
from config.prepare import _sources
from config.stack.paths import CHECKOUT
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


def test_a_new_migration_of_any_app_leads_to_a_setup() -> None:
    folders = {Path(app.path) / "migrations" for app in apps.get_app_configs() if CHECKOUT in Path(app.path).parents}
    ours = {path for folder in folders if ".venv" not in folder.parts for path in folder.glob("*.py")}
    assert len(ours) > 40
    assert ours <= set(_sources())


def test_a_port_is_refused_for_a_service_that_has_none(tmp_path: Path) -> None:
    refused = seo_gen("stack", "start", "--port", "worker=8000", SEO_GEN_HOME=str(tmp_path / "home"))
    assert refused.returncode == 2
    assert 'No service named "worker" has a port. These services have one: postgres, valkey,' in refused.stderr
    assert not (tmp_path / "home").exists()
