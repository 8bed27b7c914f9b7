"""A command loads only what it uses: slow packages that it does not need stay out of its process."""

from __future__ import annotations

import json
import subprocess
import sys
from uuid import uuid4

import pytest

from config.stack.paths import CHECKOUT
from runs.models import Run, RunStatus
from runs.services.create import run_create
from tenants.models import Tenant
from tenants.routing.context import tenant_context

# S3 and Google's libraries, the providers' SDKs and their HTTP client, prices, task queue, templates, the admin.
SLOW = (
    *("boto3", "botocore", "s3transfer", "smart_open", "storages", "google", "anthropic", "openai"),
    *("httpx2", "genai_prices", "celery", "kombu", "redis", "jinja2", "gunicorn"),
    *("unfold", "django.contrib.admin", "django.contrib.sessions", "django.contrib.staticfiles", "whitenoise"),
)
# Only commands that print tables need rich.
FOR_PEOPLE = ("rich",)
# What the list of commands does not need.
DATABASE = ("django", "psycopg", "psutil", "pydantic", "cryptography", "config.stack", "config.settings")
PROGRAM = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
from config.cli import main
sys.exit(main())
"""


def loaded_by(*words: str) -> set[str]:
    """Run `seo-gen` with these words, require success, and return the modules that it loaded."""
    command = [sys.executable, "-c", PROGRAM, *words]
    ended = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout
    return set(json.loads(ended.stderr.splitlines()[-1]))


@pytest.mark.parametrize("words", [["--help"], ["tenant", "--help"], ["--version"]])
def test_the_list_of_commands_needs_neither_django_nor_servers(words: list[str]) -> None:
    assert loaded_by(*words) & {*SLOW, *FOR_PEOPLE, *DATABASE} == set()


@pytest.mark.parametrize(
    "words", [["tenant", "create", "--help"], ["tenant", "restore", "--help"], ["run", "create", "--help"]]
)
def test_usage_of_a_command_loads_no_admin_and_no_sdk(words: list[str]) -> None:
    assert loaded_by(*words) & {"unfold", "django.contrib.admin", "anthropic", "openai", "google", "boto3"} == set()


def test_tenant_list(tenant: Tenant) -> None:
    assert loaded_by("tenant", "list") & {*SLOW} == set()
    assert loaded_by("tenant", "list", "--json") & {*SLOW, *FOR_PEOPLE} == set()


def test_run_show(tenant: Tenant) -> None:
    run = run_create(tenant_id=tenant.pk, config={"keyword": f"tea {uuid4().hex}", "language": "en"})
    words = ("run", "show", "--tenant-id", tenant.pk, "--run-id", str(run.pk))
    # It asks Valkey why a run is waiting.
    assert loaded_by(*words) & {*SLOW} == {"redis"}
    with tenant_context(tenant) as alias:
        Run.objects.using(alias).update(status=RunStatus.FAILED)
    assert loaded_by(*words) & {*SLOW} == set()
    assert loaded_by(*words, "--json") & {*SLOW, *FOR_PEOPLE} == set()


def test_run_list(tenant: Tenant) -> None:
    run_create(tenant_id=tenant.pk, config={"keyword": f"tea {uuid4().hex}", "language": "en"})
    for which in (("--tenant-id", tenant.pk), ("--all-tenants",)):
        assert loaded_by("run", "list", *which) & {*SLOW} == set()
        assert loaded_by("run", "list", *which, "--json") & {*SLOW, *FOR_PEOPLE} == set()


def test_what_migrates_or_runs_anything_has_the_admin(tenant: Tenant) -> None:
    words = ("tenant", "command", "--tenant-id", tenant.pk, "--", "shell", "--command", "print('run')")
    assert {"unfold", "django.contrib.admin"} <= loaded_by(*words)
