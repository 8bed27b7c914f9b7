"""Kill `tenant create` with `kill -9` at one of its steps, then finish the creation."""

import subprocess
import sys
import time
import uuid
from contextlib import suppress

import pytest

from tenants.errors import TenantExists, TenantNotActive, TenantUnfinished
from tenants.lifecycle.create import tenant_create
from tenants.lifecycle.suspend import tenant_suspend
from tenants.models import OperationStatus, Tenant, TenantOperation, TenantStatus
from tenants.routing.context import tenant_context
from tenants.schema.inspection import database_of
from tenants.unfinished import tenant_recover
from tests.support import preloaded
from tests.support.tenant_fixtures import remove
from tests.tenants.support.created import tenants_objects

STEPS = ["template", "role", "database", "access", "identity"]
# Kills itself as soon as the step named by its second argument is reached.
CREATE_AND_DIE = """
import django, os, signal, sys
django.setup()
from tenants.lifecycle.create import tenant_create
def die(progress):
    if progress.step == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)
tenant_create(name=sys.argv[1], on_progress=die)
"""
# Reports that the step is reached, and continues.
CREATE_AND_SAY = """
import django, sys
django.setup()
from tenants.lifecycle.create import tenant_create
tenant_create(name=sys.argv[1], on_progress=lambda p: p.step == "{step}" and print(p.step, flush=True))
"""


def killed_at(step: str) -> str:
    tenant_id = f"killed-{uuid.uuid4().hex[:12]}"
    command = [sys.executable, "-c", CREATE_AND_DIE, tenant_id, step]
    result = preloaded.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == -9, result.stderr
    assert TenantOperation.objects.get(tenant_id=tenant_id).status == OperationStatus.RUNNING
    assert Tenant.objects.get(pk=tenant_id).status == TenantStatus.PROVISIONING
    return tenant_id


def assert_whole(tenant_id: str) -> None:
    tenant = Tenant.objects.get(pk=tenant_id)
    with tenant_context(tenant):
        pass
    assert len(tenants_objects(database_of(tenant))) == 2
    assert TenantOperation.objects.get(tenant_id=tenant_id).status == OperationStatus.COMPLETED
    remove(tenant)


@pytest.mark.parametrize("step", STEPS)
def test_recover_finishes_a_creation_killed_at_any_step(step: str) -> None:
    tenant_id = killed_at(step)
    recoveries = {recovery.tenant_id: recovery for recovery in tenant_recover()}
    assert recoveries[tenant_id].outcome == "finished"
    assert tenant_recover() == []
    assert_whole(tenant_id)


@pytest.mark.parametrize("step", STEPS)
def test_creating_it_again_finishes_it_too(step: str) -> None:
    tenant_id = killed_at(step)
    assert tenant_create(name=tenant_id).status == TenantStatus.ACTIVE
    assert_whole(tenant_id)


@pytest.mark.parametrize("delay_s", [0.0, 0.01, 0.03, 0.06, 0.1])
def test_a_creation_killed_in_the_middle_of_a_statement_is_finished(delay_s: float) -> None:
    """The server finishes a statement whose client is gone; the outcome is always the same."""
    tenant_id = f"killed-{uuid.uuid4().hex[:12]}"
    program = CREATE_AND_SAY.format(step="database")
    with preloaded.Popen([sys.executable, "-c", program, tenant_id], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"database\n"
        time.sleep(delay_s)
        process.kill()
    # The killed process may just have finished it.
    with suppress(TenantExists):
        tenant_create(name=tenant_id)
    assert_whole(tenant_id)


def test_other_operations_refuse_with_a_hint() -> None:
    tenant_id = killed_at("access")
    with pytest.raises(TenantUnfinished, match="run `seo-gen tenant recover` to finish or undo it"):
        tenant_suspend(tenant_id=tenant_id)
    with pytest.raises(TenantNotActive), tenant_context(tenant_id):
        pass
    tenant_recover()
    assert_whole(tenant_id)
