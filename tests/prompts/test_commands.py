"""`prompt list`, `show`, `diff`, `create` and `activate`, as operators and programs use them; and bad input."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from audit.models import AuditLog
from config.base.command import Refusal, operator_name
from prompts.models import Prompt
from prompts.services import prompt_create_active
from tenants.models import Tenant
from tenants.routing.context import tenant_context

KEYWORD: dict[str, object] = {"name": "keyword", "type": "string", "required": True}


def command(name: str, tenant: Tenant, *arguments: str) -> str:
    out = io.StringIO()
    call_command(f"prompt_{name}", "--tenant-id", tenant.pk, *arguments, stdout=out)
    return out.getvalue()


def document(name: str, tenant: Tenant, *arguments: str) -> Any:
    return json.loads(command(name, tenant, *arguments, "--json"))


@pytest.fixture
def declared(tmp_path: Path) -> str:
    path = tmp_path / "variables.json"
    path.write_text(json.dumps([KEYWORD]))
    return str(path)


def create(tenant: Tenant, path: Path | str, *more: str) -> Any:
    return document("create", tenant, "--step", "draft", "--file", str(path), "--note", "why", *more)


def second_version(tenant: Tenant) -> None:
    with tenant_context(tenant) as alias:
        prompt_create_active(alias=alias, step="draft", content="{{ keyword }}\n", variables=[KEYWORD], note="shorter")


def test_list_shows_versions_with_author_and_note(tenant: Tenant, capsys: pytest.CaptureFixture[str]) -> None:
    second_version(tenant)
    listed = document("list", tenant, "--step", "draft")
    assert [(one["version"], one["is_active"], one["author"], one["note"]) for one in listed] == [
        (2, True, "system", "shorter"),
        (1, False, "system", "Default prompt of seo-gen."),
    ]
    assert listed[0]["usage"]["used"] == 0 and listed[0]["usage"]["mean_cost"] is None
    assert listed[1]["replaced_at"] is not None
    assert len(document("list", tenant)) == 5
    command("list", tenant)
    assert "shorter" in capsys.readouterr().out


def test_show_prints_template_and_variables_of_the_active_version_or_another(tenant: Tenant) -> None:
    second_version(tenant)
    shown = document("show", tenant, "--step", "draft")
    assert (shown["version"], shown["content"], shown["variables"]) == (2, "{{ keyword }}\n", [KEYWORD])
    assert document("show", tenant, "--step", "draft", "--version", "v1")["version"] == 1
    assert "{{ keyword }}" in command("show", tenant, "--step", "draft")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--step", "draft", "--version", "9"), "Step 'draft' has no version 9."),
        (("--step", "nowhere"), "Step 'nowhere' has no active prompt."),
        (("--step", "a\x00b"), "Step 'a\\x00b' has no active prompt."),
    ],
)
def test_a_version_that_does_not_exist_is_named(tenant: Tenant, arguments: tuple[str, ...], problem: str) -> None:
    with pytest.raises(Refusal) as refusal:
        command("show", tenant, *arguments)
    assert (refusal.value.message, refusal.value.code) == (problem, "prompt_not_found")


@pytest.mark.parametrize("version", ["0", "-1", "x", "2147483648"])
def test_a_version_that_cannot_be_is_wrong_usage(tenant: Tenant, version: str) -> None:
    with pytest.raises(CommandError, match="--version"):
        command("show", tenant, "--step", "draft", f"--version={version}")


def test_diff_compares_templates_and_variables(tenant: Tenant) -> None:
    second_version(tenant)
    found = document("diff", tenant, "--step", "draft", "--from", "1")
    lines = found["diff"].splitlines()
    assert (found["from"], found["to"]) == (1, 2)
    assert lines[:2] == ["--- draft v1: template", "+++ draft v2: template"]
    assert "+{{ keyword }}" in lines
    assert "--- draft v1: variables" in lines
    assert '-{"description": "ja or en.", "name": "language", "required": true, "type": "string"}' in lines
    assert command("diff", tenant, "--step", "draft", "--from", "2").strip() == "The two versions are the same."


def test_create_stores_a_draft_by_the_operator(tenant: Tenant, tmp_path: Path, declared: str) -> None:
    path = tmp_path / "draft.j2"
    path.write_bytes(b"\xef\xbb\xbfAbout {{ keyword }}.\r\nBriefly.\r\n")
    made = create(tenant, path, "--variables", declared)
    assert (made["version"], made["is_active"]) == (2, False)
    assert made["content"] == "About {{ keyword }}.\nBriefly.\n"
    assert (made["author"], made["note"]) == (f"operator:{operator_name()}", "why")
    with tenant_context(tenant) as alias:
        assert AuditLog.objects.using(alias).get(action="prompt.create").resource_id == str(made["id"])


def test_create_takes_the_declarations_of_the_active_version_and_reads_standard_input(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    second_version(tenant)
    given = io.TextIOWrapper(io.BytesIO("「{{ keyword }}」".encode()))
    monkeypatch.setattr(sys, "stdin", given)
    made = create(tenant, "-", "--activate")
    assert (made["version"], made["is_active"], made["variables"]) == (3, True, [KEYWORD])
    assert made["content"] == "「{{ keyword }}」"


# What is in the file, the error's code, and a part of its sentence.
BAD_TEMPLATES = [
    (b"", "prompt_invalid", "The template is empty."),
    (
        b"a\n{% if %}",
        "prompt_invalid",
        "The template is not valid Jinja2: Expected an expression",
    ),
    (b"{{ keyword }} {{ tone }}", "prompt_mismatch", "The template uses undeclared variables: tone."),
    (b"plain", "prompt_mismatch", "The template does not use these declared variables: keyword."),
    (b"{{ keyword }}\x00", "prompt_invalid", "The template contains a NUL character."),
    (b"{{ keyword }}" + b"x" * 65536, "prompt_invalid", "The template is longer than 65536 characters."),
    (b"x" * 10_000_000, "prompt_file_unreadable", "is larger than 256 KiB."),
    (b"\xff\xfe{", "prompt_file_unreadable", "it is not UTF-8 text."),
    (b"{{ 2**(10**9) }}", "prompt_invalid", "cannot be compiled. It takes too long."),
    (b"{% include 'other' %}", "prompt_invalid", "The template uses include, import or extends,"),
]


@pytest.mark.parametrize("bad", BAD_TEMPLATES)
def test_a_bad_template_is_refused_in_one_sentence_before_anything_is_stored(
    tenant: Tenant, tmp_path: Path, declared: str, bad: tuple[bytes, str, str]
) -> None:
    content, code, problem = bad
    path = tmp_path / "draft.j2"
    path.write_bytes(content)
    with pytest.raises(Refusal) as refusal:
        create(tenant, path, "--variables", declared)
    assert problem in refusal.value.message and "\n" not in refusal.value.message
    assert refusal.value.code == code
    with tenant_context(tenant) as alias:
        assert Prompt.objects.using(alias).filter(step="draft").count() == 1


def test_a_syntax_error_names_its_line(tenant: Tenant, tmp_path: Path, declared: str) -> None:
    path = tmp_path / "draft.j2"
    path.write_text("{{ keyword }}\n\n{% if %}")
    with pytest.raises(Refusal, match=r"\(line 3\)\.$"):
        create(tenant, path, "--variables", declared)


@pytest.mark.parametrize(
    ("declarations", "code", "problem"),
    [
        ("[", "prompt_file_unreadable", "is not valid JSON (line 1)."),
        (
            "[" * 100_000,
            "prompt_file_unreadable",
            "cannot be read as JSON: a number is too long, or its content is nested too deeply.",
        ),
        ('[{"name": "keyword", "type": "colour"}]', "prompt_invalid", "Prompt variables: [0].type must be"),
        (
            '[{"name": "keyword", "type": "integer", "default": "one"}]',
            "prompt_invalid",
            "has a default that is not of type integer",
        ),
    ],
)
def test_bad_declarations_are_refused_in_one_sentence(
    tenant: Tenant, tmp_path: Path, declarations: str, code: str, problem: str
) -> None:
    template, variables = tmp_path / "draft.j2", tmp_path / "variables.json"
    template.write_text("{{ keyword }}")
    variables.write_text(declarations)
    with pytest.raises(Refusal) as refusal:
        create(tenant, template, "--variables", str(variables))
    assert problem in refusal.value.message and refusal.value.code == code


def test_a_note_is_required(tenant: Tenant, tmp_path: Path, declared: str) -> None:
    path = tmp_path / "draft.j2"
    path.write_text("{{ keyword }}")
    given = ("--step", "draft", "--file", str(path), "--variables", declared)
    with pytest.raises(CommandError, match="--note"):
        command("create", tenant, *given)
    with pytest.raises(Refusal) as refusal:
        command("create", tenant, *given, "--note", " ")
    assert refusal.value.code == "prompt_note_missing"


def test_activate_and_roll_back(tenant: Tenant) -> None:
    second_version(tenant)
    assert document("activate", tenant, "--step", "draft", "--version", "1")["version"] == 1
    assert command("activate", tenant, "--step", "draft", "--previous") == "draft v2 is now active.\n"
    with tenant_context(tenant) as alias:
        assert Prompt.objects.using(alias).get(step="draft", is_active=True).version == 2
    with pytest.raises(Refusal) as refusal:
        command("activate", tenant, "--step", "outline", "--previous")
    assert refusal.value.code == "prompt_previous_missing"
