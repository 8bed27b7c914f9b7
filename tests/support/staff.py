"""Staff members, a logged-in client, and tenants with data to view."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.test import Client

from tests.audit.conftest import control_log as control_log
from tests.config.site.forms import Browser

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from runs.models import Artifact, Run, Step
    from tenants.models import Erasure, RoleAssignment, Tenant, TenantGroup

ARTICLE = "# 記事\n\nCanary article text.\n"
PASSWORD = "a long enough password 1"


@dataclass(frozen=True)
class Filled:
    """A tenant with one completed run."""

    tenant: Tenant
    run: Run
    step: Step
    artifact: Artifact
    keyword: str

    @property
    def site(self) -> str:
        return f"/t/{self.tenant.id}/admin/"


@pytest.fixture
def superuser() -> Iterator[User]:
    user = make_user(is_superuser=True)
    yield user
    user.delete()


@pytest.fixture
def staff() -> Iterator[User]:
    """Yield a staff member without roles."""
    user = make_user(is_superuser=False)
    yield user
    user.delete()


@pytest.fixture
def browser(superuser: User) -> Client:
    """Return a client that is logged in as a superuser."""
    client = Browser()
    client.force_login(superuser)
    return client


@pytest.fixture
def fill() -> Callable[[Tenant], Filled]:
    return fill_tenant


@pytest.fixture
def filled(tenant: Tenant) -> Filled:
    return fill_tenant(tenant)


@pytest.fixture
def filled_pair(tenant_pair: tuple[Tenant, Tenant]) -> tuple[Filled, Filled]:
    first, second = tenant_pair
    return fill_tenant(first), fill_tenant(second)


@pytest.fixture
def erased(filled: Filled) -> Iterator[Erasure]:
    """Yield the erasure of a tenant with data; remove the tombstone after the test."""
    from tenants.erasure.delete import tenant_delete
    from tests.tenants.support.erased import forget_erasure

    row = tenant_delete(tenant_id=filled.tenant.id)
    yield row
    forget_erasure(row)


def make_user(*, is_superuser: bool) -> User:
    from django.contrib.auth.models import User

    return User.objects.create_user(
        f"staff-{uuid.uuid4().hex[:8]}", password=PASSWORD, is_staff=True, is_superuser=is_superuser
    )


def give_role(user: User, role: str, tenant: Tenant | None = None, group: TenantGroup | None = None) -> RoleAssignment:
    """Assign a role for a tenant, for a group, or else for all tenants. It holds at once for clients that are
    already logged in.
    """
    from tenants.models import RoleAssignment, RoleScope

    scope = RoleScope.TENANT if tenant else RoleScope.GROUP if group else RoleScope.ALL
    return RoleAssignment.objects.create(user=user, role=role, scope=scope, tenant=tenant, group=group)


def roles_form(*rows: dict[str, str], initial: int = 0) -> dict[str, str]:
    """Return the fields about roles that a user's page sends; the first `initial` rows exist and contain their ids."""
    form = {"role_assignments-TOTAL_FORMS": str(len(rows)), "role_assignments-INITIAL_FORMS": str(initial)}
    return form | {
        f"role_assignments-{number}-{name}": value for number, row in enumerate(rows) for name, value in row.items()
    }


def run_in_review(tenant: Tenant, text: str = "Text.") -> Run:
    """Create and return a run that waits for a review before its second step; the first one wrote `text`."""
    from runs.models import Step
    from runs.services.create import run_create
    from runs.services.pause import run_pause
    from runs.services.resume import run_resume
    from tenants.routing.context import tenant_context
    from tests.runs.services.states import complete_by_hand

    run = run_create(tenant_id=tenant.pk, config={"keyword": "green tea", "language": "en"})
    complete_by_hand(tenant, run, "keyword_analysis", text)
    run_pause(tenant_id=tenant.pk, run_id=run.pk)
    with tenant_context(tenant) as alias:
        Step.objects.using(alias).filter(run=run, step="outline").update(review=True)
    return run_resume(tenant_id=tenant.pk, run_id=run.pk)


def fill_tenant(tenant: Tenant) -> Filled:
    """Create a completed run with one step, an artifact and its file."""
    from django.utils import timezone

    from runs import storage
    from runs.models import Artifact, Run, RunStatus, Step, StepStatus
    from tenants.routing.context import tenant_context

    keyword = f"keyword {uuid.uuid4().hex[:8]} <b>"
    with tenant_context(tenant):
        run = Run.objects.create(status=RunStatus.COMPLETED, config={"keyword": keyword, "language": "en"})
        step = Step.objects.create(
            run=run,
            step="final",
            status=StepStatus.COMPLETED,
            llm_provider="claude",
            llm_model="model-x",
            token_usage={"input": 1000, "output": 500},
            cost_per_1k_input_tokens="0.003",
            cost_per_1k_output_tokens="0.015",
            summary="A summary",
            started_at=timezone.now() - timedelta(seconds=12),
            completed_at=timezone.now(),
        )
        file = storage.write(storage.artifact_path(run.pk, "final", "article.md"), ARTICLE.encode())
        artifact = Artifact.objects.create(
            run=run,
            step="final",
            file_type="text/markdown",
            file_path=file.path,
            digest=file.digest,
            metadata={"size_bytes": file.size_bytes},
        )
    return Filled(tenant, run, step, artifact, keyword)
