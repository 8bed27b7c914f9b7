"""A tenant with finished runs moves to another installation and continues there, or is imported beside the original."""

from __future__ import annotations

import json
import os
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from config import stack
from config.stack.paths import CHECKOUT
from llm.models import LLMModel
from runs.models import Run
from tenants.models import Tenant
from tenants.transfer.export import tenant_export
from tenants.transfer.import_ import tenant_import
from tests.runs.driving import finish
from tests.runs.fake_llm import FakeLLM
from tests.support import preloaded
from tests.support.environment import POSTGRES_OPTIONS
from tests.support.program import seo_gen
from tests.support.servers import ELSEWHERE
from tests.tenants.conftest import AgeKey, age_key
from tests.tenants.support.filled import add_run, rows_of, without_audit
from tests.tenants.support.filled import everything_of as state_of

__all__ = ["age_key"]

# In the other installation: everything that was imported is there, a new run completes, and the audit chain verifies.
GO_ON = """
import django, json, os, sys
django.setup()
from audit.log.chain_check import chain_first_bad, chain_head
from audit.models import AuditLog
from llm.models import LLMModel, LLMProvider
from runs.models import Run
from runs.selectors import run_document
from runs.services.create import run_create
from runs.steps.execute import step_execute
from tenants.routing.context import tenant_context
from tenants.models import Tenant
from tenants.routing.owner_connection import owner_connection
from tenants.schema.inspection import database_of
tenant_id, url = sys.argv[1:]
LLMProvider.objects.filter(pk="openai").update(api_base_url=url)
with tenant_context(tenant_id) as alias:
    before = [str(pk) for pk in Run.objects.using(alias).order_by("created_at").values_list("pk", flat=True)]
steps = ["keyword_analysis", "outline", "draft", "final"]
models = {step: {"provider": "openai", "model_class": "standard"} for step in steps}
run = run_create(tenant_id=tenant_id, config={"keyword": "tea", "language": "en", "steps": steps, "models": models})
outcomes = [step_execute(tenant_id=tenant_id, run_id=run.pk, step=step, owner="test") for step in steps]
tenant = Tenant.objects.select_related("server").get(pk=tenant_id)
with owner_connection(tenant.server, database_of(tenant), "test") as connection:
    whole = chain_first_bad(connection, tenant.chain_identity or tenant.identity) is None
    whole = whole and chain_head(connection).sequence == AuditLog.objects.using(connection.alias).count()
print(json.dumps({
    "before": before, "documents": [run_document(tenant_id=tenant_id, run_id=pk) for pk in before],
    "outcomes": outcomes, "status": run_document(tenant_id=tenant_id, run_id=run.pk)["status"], "whole": whole,
    "models": sorted(LLMModel.objects.values_list("model_name", flat=True)),
}))
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Yield the environment of a second installation, whose own servers start on first use; stop them at the end."""
    home = tmp_path_factory.mktemp("elsewhere")
    yield {
        "SEO_GEN_HOME": str(home),
        "SEO_GEN_POSTGRES_OPTIONS": POSTGRES_OPTIONS,
        "LOCAL_LLM_URL": ELSEWHERE["LOCAL_LLM_URL"],
        "OPENAI_API_KEY": "sk-test",
    }
    stack.stop(stack.find_home(home))


def go_on(tenant_id: str, url: str, environment: dict[str, str]) -> dict[str, Any]:
    """Create and execute a new run of the tenant in the other installation; return the document that GO_ON prints."""
    result = preloaded.run(
        [sys.executable, "-c", GO_ON, tenant_id, url],
        cwd=CHECKOUT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_a_tenant_with_finished_runs_moves_and_keeps_working(
    tenant: Tenant,
    make_run: Callable[..., Run],
    fake_llm: FakeLLM,
    elsewhere: dict[str, str],
    tmp_path: Path,
) -> None:
    run = make_run(tenant)
    assert finish(tenant, run)[-1] == "completed"
    model = LLMModel.objects.create(provider_id="openai", model_name="only-here", model_class="pro")
    bundle = tmp_path / "bundle.tar"
    tenant_export(tenant_id=tenant.id, output=str(bundle))
    model.delete()
    result = seo_gen("tenant", "import", "--file", str(bundle), "--json", **elsewhere)
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert (document["tenant_id"], document["missing_files"]) == (tenant.id, [])
    assert "openai/only-here" in document["added"]
    found = go_on(tenant.id, fake_llm.url, elsewhere)
    assert found["before"] == [str(run.pk)]
    [moved] = found["documents"]
    assert moved["status"] == "completed" and [step["status"] for step in moved["steps"]] == ["completed"] * 4
    assert (found["outcomes"], found["status"], found["whole"]) == (["completed"] * 4, "completed", True)
    assert "only-here" in found["models"]
    refused = seo_gen("tenant", "import", "--file", str(bundle), **elsewhere)
    assert refused.returncode == 1 and f"Tenant {tenant.id} already exists (active)" in refused.stderr
    # No keys are moved.
    with tarfile.open(bundle) as archive:
        assert archive.getnames() == ["manifest.json", "control.json", "audit.jsonl", "dump", "storage.tar"]
        for member in archive:
            content = archive.extractfile(member)
            assert content is not None
            text = content.read()
            assert b"sk-test" not in text and tenant.database_url.split(":")[2].split("@")[0].encode() not in text


def test_beside_others_it_gets_an_id_an_identity_and_paths_of_its_own(
    tenant: Tenant, tmp_path: Path, age_key: AgeKey
) -> None:
    from tests.support.tenant_fixtures import remove
    from tests.tenants.support.restores import chain_is_whole

    add_run(tenant)
    before = without_audit(state_of(tenant))
    bundle = str(tmp_path / "bundle.tar.age")
    tenant_export(tenant_id=tenant.id, output=bundle, recipient=age_key.recipient)
    report = tenant_import(file=bundle, new_id=f"{tenant.id}-b", age_identity_file=age_key.age_identity_file)
    other = Tenant.objects.select_related("server").get(pk=report.tenant_id)
    assert other.identity != tenant.identity and other.chain_identity == tenant.identity
    assert chain_is_whole(other)
    assert len(rows_of(other)["runs"]) == 1 and report.missing_files == []
    paths = state_of(other)["files"]
    assert isinstance(paths, dict) and all(path.startswith(f"storage/{other.id}/") for path in paths)
    text = json.dumps(rows_of(other)["artifacts"] + rows_of(other)["steps"])
    assert f"storage/{tenant.id}/" not in text and f"storage/{other.id}/" in text
    # The original installation is unchanged.
    assert without_audit(state_of(tenant)) == before
    remove(other)
