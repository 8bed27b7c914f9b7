"""The commands as operators run them: as a program with output and an exit status."""

import json
import uuid

import pytest
from django.core.management import CommandError, call_command

from audit.control.models import ControlAuditLog
from tenants.lifecycle.suspend import tenant_suspend
from tenants.models import DatabaseServer, Tenant, TenantStatus
from tests.support.program import seo_gen
from tests.support.tenant_fixtures import MakeTenant, remove


def test_create_prints_one_document_and_is_audited_with_the_operator() -> None:
    tenant_id = f"cli-{uuid.uuid4().hex[:12]}"
    result = seo_gen("tenant", "create", "--name", tenant_id, "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert (document["id"], document["status"], document["server"]) == (tenant_id, "active", "main")
    assert ":****@" in document["database_url"]
    actors = ControlAuditLog.objects.filter(resource_id=tenant_id).values_list("user_id", "operation_id")
    assert len(set(actors)) == 1 and actors[0][0].startswith("operator:") and actors[0][1]
    remove(Tenant.objects.get(pk=tenant_id))


def test_create_says_in_one_sentence_why_not(tenant: Tenant) -> None:
    result = seo_gen("tenant", "create", "--name", "x", "--id", tenant.id)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"Tenant {tenant.id} already exists (active). Choose another id with --id.\n"


def test_create_says_which_id_a_name_without_latin_letters_got() -> None:
    name = f"株式会社さくら商店{uuid.uuid4().hex[:8]}"
    result = seo_gen("tenant", "create", "--name", name)
    assert result.returncode == 0, result.stderr
    tenant = Tenant.objects.get(name=name)
    assert f"No id can be derived from the name, so the tenant got the id {tenant.id}." in result.stdout
    remove(tenant)


@pytest.mark.parametrize("name", ["株式会社\u3000テスト", "Family 👨\u200d👩\u200d👧", "Caf\u00e9\u00a0Ltd"])
def test_create_takes_a_name_with_any_space_and_emoji(name: str) -> None:
    tenant_id = f"kk-{uuid.uuid4().hex[:12]}"
    result = seo_gen("tenant", "create", "--name", f"{name} {tenant_id}", "--id", tenant_id)
    assert result.returncode == 0, result.stderr
    assert Tenant.objects.get(pk=tenant_id).name == f"{name} {tenant_id}"
    remove(Tenant.objects.get(pk=tenant_id))


def test_wrong_usage_exits_2() -> None:
    result = seo_gen("tenant", "create")
    assert result.returncode == 2
    assert "--name" in result.stderr


def test_list_shows_each_tenant_and_no_credential(tenant_pair: tuple[Tenant, Tenant]) -> None:
    table = seo_gen("tenant", "list")
    documents = json.loads(seo_gen("tenant", "list", "--json").stdout)
    for tenant in tenant_pair:
        assert any(line.startswith(f"{tenant.id} ") for line in table.stdout.splitlines())
        assert tenant.id in {document["id"] for document in documents}
        assert tenant.database_url.split(":")[2].split("@")[0] not in table.stdout + json.dumps(documents)


def test_status_connects_and_names_unhealthy_tenants(tenant_pair: tuple[Tenant, Tenant]) -> None:
    well, ill = tenant_pair
    Tenant.objects.filter(pk=ill.pk).update(database_url="postgresql://u:secret@127.0.0.1:9/d")
    result = seo_gen("tenant", "status", "--tenant-id", well.id, "--json")
    document = json.loads(result.stdout)[0]
    assert document["reachable"] is True and document["size_bytes"] > 0 and document["problem"] is None
    result = seo_gen("tenant", "status", "--tenant-id", ill.id)
    assert result.returncode == 1
    assert f"Unhealthy: {ill.id}." in result.stderr and "secret" not in result.stdout + result.stderr
    Tenant.objects.filter(pk=ill.pk).update(database_url=ill.database_url)


def test_suspend_and_resume(tenant: Tenant) -> None:
    assert "is suspended" in seo_gen("tenant", "suspend", "--tenant-id", tenant.id).stdout
    assert Tenant.objects.get(pk=tenant.id).status == TenantStatus.SUSPENDED
    refused = seo_gen("tenant", "suspend", "--tenant-id", tenant.id)
    assert refused.returncode == 1 and f"The status of tenant {tenant.id} is suspended." in refused.stderr
    assert "active again" in seo_gen("tenant", "resume", "--tenant-id", tenant.id).stdout


def test_recover_has_nothing_to_do() -> None:
    result = seo_gen("tenant", "recover")
    assert (result.returncode, result.stdout) == (0, "Nothing to recover.\n")


def test_dbshell_is_the_tenants_own_role_or_with_owner_the_owner(tenant: Tenant) -> None:
    query = ("--", "-Atc", "SELECT current_user")
    own = seo_gen("tenant", "dbshell", "--tenant-id", tenant.id, *query)
    assert own.returncode == 0, own.stderr
    assert own.stdout.strip() == tenant.database_url.rpartition("/")[2]
    owner = seo_gen("tenant", "dbshell", "--tenant-id", tenant.id, "--owner", *query)
    assert owner.stdout.strip() == "seo_gen_owner"
    recorded = ControlAuditLog.objects.filter(action="tenant.dbshell", resource_id=tenant.id).order_by("id")
    assert [entry.details for entry in recorded] == [{"owner": False}, {"owner": True}]


def test_dbshell_hands_on_the_exit_status(tenant: Tenant) -> None:
    result = seo_gen("tenant", "dbshell", "--tenant-id", tenant.id, "--", "-c", "SELECT nonsense")
    assert result.returncode == 1 and "nonsense" in result.stderr


def test_command_runs_in_the_tenants_database(tenant: Tenant) -> None:
    count = "from prompts.models import Prompt; print('prompts', Prompt.objects.count())"
    result = seo_gen("tenant", "command", "--tenant-id", tenant.id, "--", "shell", "--no-imports", "-c", count)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "prompts 4\n"
    dumped = seo_gen("tenant", "command", "--tenant-id", tenant.id, "--", "dumpdata", "prompts")
    assert len(json.loads(dumped.stdout)) == 4


def test_command_for_all_continues_after_a_failure_and_names_it(tenant_pair: tuple[Tenant, Tenant]) -> None:
    well, ill = tenant_pair
    Tenant.objects.filter(pk=ill.pk).update(database_url="postgresql://u:secret@127.0.0.1:9/d")
    result = seo_gen(
        "tenant",
        "command",
        "--all",
        "--",
        "shell",
        "--no-imports",
        "-c",
        "from runs.models import Run; Run.objects.count()",
    )
    Tenant.objects.filter(pk=ill.pk).update(database_url=ill.database_url)
    assert result.returncode == 1
    assert f"== {well.id}" in result.stderr and f"shell failed for {ill.id}." in result.stderr
    assert "secret" not in result.stderr


def test_command_refuses_what_does_not_exist_and_migrate(tenant: Tenant) -> None:
    result = seo_gen("tenant", "command", "--tenant-id", tenant.id, "--", "nonsense")
    assert result.returncode == 1 and "There is no Django command 'nonsense'" in result.stderr
    result = seo_gen("tenant", "command", "--tenant-id", tenant.id, "--", "migrate")
    assert result.returncode == 1 and f"tenant:{tenant.id} is a tenant's database" in result.stderr


def test_migrate_leads_to_the_command_that_migrates_tenants() -> None:
    with pytest.raises(CommandError, match="Use `seo-gen tenant migrate` instead"):
        call_command("migrate", "--database", "tenant:anybody")
    with pytest.raises(CommandError, match="There is no database 'nonsense'"):
        call_command("migrate", "--database", "nonsense")


@pytest.mark.parametrize("verb", ["suspend", "resume", "dbshell", "status"])
def test_an_unknown_tenant_is_named(verb: str) -> None:
    result = seo_gen("tenant", verb, "--tenant-id", "nobody")
    assert result.returncode == 1
    assert result.stderr.startswith("There is no tenant 'nobody'.")


def test_a_control_database_that_is_gone_is_one_sentence_without_credentials() -> None:
    result = seo_gen("tenant", "list", DATABASE_URL="postgresql://u:secret@127.0.0.1:9/d")
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1 and "secret" not in result.stderr


def test_set_up_again_changes_nothing(make_tenant: MakeTenant) -> None:
    before = ControlAuditLog.objects.count()
    result = seo_gen("control", "setup")
    assert result.returncode == 0 and "ready" in result.stdout
    assert ControlAuditLog.objects.count() == before
    assert DatabaseServer.objects.filter(is_default=True).count() == 1


def test_suspended_tenants_are_skipped_by_all_and_can_be_looked_into(tenant: Tenant) -> None:
    tenant_suspend(tenant_id=tenant.id)
    everybody = seo_gen("tenant", "command", "--all", "--", "check")
    assert f"== {tenant.id}" not in everybody.stderr
    assert seo_gen("tenant", "command", "--tenant-id", tenant.id, "--", "check").returncode == 0
