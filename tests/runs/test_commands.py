"""`run create`, `run list` and `run show`, as operators and programs use them."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from audit.models import AuditLog
from config.base.command import operator_name
from runs.models import Run
from runs.steps.execute import step_execute
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.runs.driving import finish
from tests.runs.fake_llm import Answer, FakeLLM

MakeRun = Callable[..., Run]


def command(name: str, *arguments: str) -> str:
    out = StringIO()
    call_command(name, *arguments, stdout=out)
    return out.getvalue()


def document(name: str, *arguments: str) -> Any:
    return json.loads(command(name, *arguments, "--json"))


def test_create_prints_the_run_as_one_document(tenant: Tenant) -> None:
    created = document("run_create", "--tenant-id", tenant.pk, "--config", '{"keyword": "tea", "language": "en"}')
    assert (created["tenant_id"], created["status"], created["current_step"]) == (
        tenant.pk,
        "pending",
        "keyword_analysis",
    )
    assert [step["status"] for step in created["steps"]] == ["pending"] * 4
    assert created["cost"] == {
        "total_llm_cost": 0.0,
        "exact_llm_cost": "0",
        "total_input_tokens": None,
        "total_output_tokens": None,
        "tokens_by_unit": {},
        "unpriced_tokens": {},
        "unpriced_steps": 0,
        "cache_saving": None,
        "unknown_calls": 0,
        "unknown_cost_limit": None,
    }
    with tenant_context(tenant) as alias:
        assert str(Run.objects.using(alias).get().pk) == created["id"]
        assert AuditLog.objects.using(alias).get(action="run.create").user_id == f"operator:{operator_name()}"


def test_create_tells_people_how_to_follow_it(tenant: Tenant) -> None:
    shown = command("run_create", "--tenant-id", tenant.pk, "--config", '{"keyword": "tea"}')
    with tenant_context(tenant) as alias:
        run = Run.objects.using(alias).get()
    assert f"`seo-gen run show --tenant-id {tenant.pk} --run-id {run.pk} --follow`" in shown


def test_create_reads_a_file(tenant: Tenant, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('\ufeff{"keyword": "緑茶"}', encoding="utf-8")
    created = document("run_create", "--tenant-id", tenant.pk, "--config", f"@{file}")
    assert created["config"] == {"keyword": "緑茶", "language": "ja"}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "The configuration file {file} cannot be read: No such file or directory."),
        (b"\xff\xfe", "The configuration file {file} cannot be read: it is not UTF-8 text."),
        (b"{", "The run's configuration cannot be read as JSON: "),
        (b'{"keyword": "' + b"x" * 70000 + b'"}', "The run's configuration is larger than 64 KiB."),
        (b"\xef\xbb\xbf" + "\u7dd1".encode() * 30_000, "The run's configuration is larger than 64 KiB."),
    ],
)
def test_an_invalid_configuration_file_is_one_sentence(
    tenant: Tenant, tmp_path: Path, content: bytes | None, sentence: str
) -> None:
    file = tmp_path / "config.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CommandError) as caught:
        command("run_create", "--tenant-id", tenant.pk, "--config", f"@{file}")
    assert str(caught.value).startswith(sentence.format(file=file))


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("keyword=tea", "The run's configuration cannot be read as JSON: "),
        ("{}", "The run's configuration is invalid: keyword is missing."),
        (
            '{"keyword": "tea", "steps": ["x"]}',
            "The run's configuration names step 'x', but the steps of the pipeline are: ",
        ),
    ],
)
def test_a_wrong_configuration_is_one_sentence_and_leaves_nothing(tenant: Tenant, config: str, sentence: str) -> None:
    with pytest.raises(CommandError) as caught:
        command("run_create", "--tenant-id", tenant.pk, "--config", config)
    assert str(caught.value).startswith(sentence)
    with tenant_context(tenant) as alias:
        assert not Run.objects.using(alias).exists()


def test_waiting_without_a_worker_is_refused_before_anything_is_made(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runs.messages.sending.WORKER_ANSWERS_S", (0.1, 0.4))
    with pytest.raises(CommandError, match="No worker on the queue") as caught:
        command("run_create", "--tenant-id", tenant.pk, "--config", '{"keyword": "tea"}', "--wait")
    assert "seo-gen stack start" in str(caught.value)
    with tenant_context(tenant) as alias:
        assert not Run.objects.using(alias).exists()


def test_show_has_model_tokens_seconds_cost_and_digests(tenant: Tenant, run: Run, fake_llm: FakeLLM) -> None:
    finish(tenant, run)
    shown = document("run_show", "--tenant-id", tenant.pk, "--run-id", str(run.pk))
    assert (shown["status"], shown["current_step"]) == ("completed", None)
    first = shown["steps"][0]
    assert first["step"] == "keyword_analysis"
    assert (first["llm_provider"], first["token_usage"]) == ("openai", {"input": 1000, "output": 200})
    assert first["retry_count"] == 0 and first["seconds"] >= 0
    assert first["output_path"].endswith("/keyword_analysis/output.json") and len(first["output_digest"]) == 64
    assert [artifact["file_path"].rsplit("/", 1)[1] for artifact in shown["artifacts"]][-1] == "article.md"
    assert shown["cost"]["total_input_tokens"] == 4000 and shown["cost"]["total_llm_cost"] > 0


def test_show_prints_tables_for_people(tenant: Tenant, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    finish(tenant, run)
    call_command("run_show", "--tenant-id", tenant.pk, "--run-id", str(run.pk))
    shown = capsys.readouterr().out
    assert f"Run {run.pk} of tenant {tenant.pk}: completed" in shown
    assert "article.md" in shown and "1000/200" in shown and "Cost: USD" in shown


@pytest.mark.parametrize("run_id", ["00000000-0000-4000-8000-000000000000", "nonsense", "'; DROP TABLE runs"])
def test_an_unknown_run_is_one_sentence(tenant: Tenant, run_id: str) -> None:
    with pytest.raises(CommandError, match="There is no run ") as caught:
        command("run_show", "--tenant-id", tenant.pk, "--run-id", run_id)
    assert repr(run_id) in str(caught.value)


@pytest.mark.parametrize("name", ["run_list", "run_show", "run_create"])
def test_an_unknown_tenant_is_one_sentence(name: str) -> None:
    more = {"run_show": ["--run-id", "x"], "run_create": ["--config", '{"keyword": "x"}']}.get(name, [])
    with pytest.raises(CommandError, match="There is no tenant 'nobody'"):
        command(name, "--tenant-id", "nobody", *more)


def test_list_is_newest_first_and_can_be_narrowed(tenant: Tenant, make_run: MakeRun, fake_llm: FakeLLM) -> None:
    runs = [make_run(tenant, keyword=f"keyword {number}") for number in range(3)]
    fake_llm.answers.append(Answer(status=400, text="no"))
    step_execute(tenant_id=tenant.pk, run_id=runs[1].pk, step="keyword_analysis", owner="w")
    listed = document("run_list", "--tenant-id", tenant.pk)
    assert [run["keyword"] for run in listed] == ["keyword 2", "keyword 1", "keyword 0"]
    assert [run["keyword"] for run in document("run_list", "--tenant-id", tenant.pk, "--limit", "1")] == ["keyword 2"]
    assert [run["id"] for run in document("run_list", "--tenant-id", tenant.pk, "--status", "failed")] == [
        str(runs[1].pk)
    ]


def test_list_prints_a_table_for_people(tenant: Tenant, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("run_list", "--tenant-id", tenant.pk)
    shown = capsys.readouterr().out
    assert str(run.pk) in shown and "coffee grinder" in shown


def test_an_empty_list_says_so(tenant: Tenant) -> None:
    assert command("run_list", "--tenant-id", tenant.pk) == "No runs found. Start one with `seo-gen run create`.\n"
    assert command("run_list", "--tenant-id", tenant.pk, "--status", "failed") == "No runs match.\n"
    assert document("run_list", "--tenant-id", tenant.pk) == []


@pytest.mark.parametrize(
    "arguments", [["--status"], ["--limit", "0"], ["--limit", "-1"], ["--limit", "x"], ["--status", "cancelled"]]
)
def test_a_wrong_option_is_wrong_usage(tenant: Tenant, arguments: list[str]) -> None:
    with pytest.raises(CommandError) as caught:
        command("run_list", "--tenant-id", tenant.pk, *arguments)
    assert str(caught.value).startswith("Error: argument")


def test_runs_of_another_tenant_are_not_shown(tenant_pair: tuple[Tenant, Tenant], make_run: MakeRun) -> None:
    one, other = tenant_pair
    run = make_run(one)
    assert document("run_list", "--tenant-id", other.pk) == []
    with pytest.raises(CommandError, match="There is no run"):
        command("run_show", "--tenant-id", other.pk, "--run-id", str(run.pk))
