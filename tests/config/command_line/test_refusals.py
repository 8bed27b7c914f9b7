"""A refusal is one sentence and often a hint for people, and with `--json` one document for scripts."""

import json
import os
import subprocess
import sys

import pytest
from django.core.management import CommandError, call_command

from config.base.command import Refusal
from config.stack.paths import CHECKOUT
from tenants.models import Tenant
from tests.support import preloaded
from tests.support.program import seo_gen
from tests.support.tenant_fixtures import MakeTenant

NOBODY = ("tenant", "suspend", "--tenant-id", "nobody")
UNKNOWN = {
    "code": "tenant_not_found",
    "message": "There is no tenant 'nobody'.",
    "hint": "`seo-gen tenant list` shows all tenants.",
}


def manage(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "manage.py", *words]
    return preloaded.run(command, cwd=CHECKOUT, env=dict(os.environ), capture_output=True, text=True, check=False)


def test_with_json_it_is_one_document_on_stdout() -> None:
    refused = seo_gen(*NOBODY, "--json")
    assert (refused.returncode, refused.stderr) == (1, "")
    assert json.loads(refused.stdout) == {"error": UNKNOWN}


def test_without_json_it_is_sentence_and_hint_on_stderr() -> None:
    refused = seo_gen(*NOBODY)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"{UNKNOWN['message']} {UNKNOWN['hint']}\n"


def test_in_japanese_it_has_the_same_code() -> None:
    refused = seo_gen(*NOBODY, LANGUAGE_CODE="ja")
    message, hint = "テナント 'nobody' はありません。", "一覧は `seo-gen tenant list` で確認できます。"
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", f"{message}{hint}\n")
    document = json.loads(seo_gen(*NOBODY, "--json", LANGUAGE_CODE="ja").stdout)
    assert document == {"error": {"code": UNKNOWN["code"], "message": message, "hint": hint}}


def test_it_is_the_same_through_manage_py() -> None:
    refused = manage("tenant_suspend", "--tenant-id", "nobody", "--json")
    assert (refused.returncode, refused.stderr) == (1, "")
    assert json.loads(refused.stdout) == {"error": UNKNOWN}


def test_a_command_of_djangos_has_no_class_name_in_front_either() -> None:
    refused = manage("sqlmigrate", "tenants", "0999")
    assert refused.returncode == 1
    assert refused.stderr.startswith("Cannot find a migration matching '0999'"), refused.stderr


@pytest.mark.parametrize(
    ("variable", "value", "code"),
    [("LOG_LEVEL", "LOUD", "log_setting_invalid"), ("DATABASE_LOCK_TIMEOUT_S", "soon", "configuration_invalid")],
)
def test_a_wrong_configuration_is_such_a_document_before_django_is_there(variable: str, value: str, code: str) -> None:
    refused = seo_gen("tenant", "list", "--json", **{variable: value})
    assert (refused.returncode, refused.stderr) == (1, "")
    error = json.loads(refused.stdout)["error"]
    assert error["code"] == code and variable in error["message"]


def test_wrong_usage_stays_on_stderr() -> None:
    refused = seo_gen("tenant", "suspend", "--json")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "usage: seo-gen tenant suspend" in refused.stderr


def test_after_two_dashes_json_is_not_an_option() -> None:
    refused = seo_gen("tenant", "command", "--tenant-id", "nobody", "check", "--", "--json")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("There is no tenant 'nobody'.")


def test_findings_go_to_stderr_after_the_document(make_tenant: MakeTenant) -> None:
    """stdout has only the document; stderr has the sentence that names the unhealthy tenants."""
    tenant = make_tenant()
    Tenant.objects.filter(pk=tenant.pk).update(server=None)
    try:
        found = seo_gen("tenant", "status", "--tenant-id", tenant.id, "--json")
    finally:
        Tenant.objects.filter(pk=tenant.pk).update(server=tenant.server)
    assert (found.returncode, found.stderr) == (1, f"Unhealthy: {tenant.id}.\n")
    [row] = json.loads(found.stdout)
    assert row["id"] == tenant.id and "has no registered server" in row["problem"]


def test_python_gets_a_command_error_with_its_code() -> None:
    with pytest.raises(CommandError) as told:
        call_command("tenant_suspend", tenant_id="nobody")
    assert isinstance(told.value, Refusal)
    assert (told.value.code, told.value.message, told.value.hint) == tuple(UNKNOWN.values())


def test_traceback_shows_it() -> None:
    refused = seo_gen(*NOBODY, "--traceback")
    assert refused.returncode == 1 and "Traceback (most recent call last)" in refused.stderr
    assert "There is no tenant 'nobody'." in refused.stderr
