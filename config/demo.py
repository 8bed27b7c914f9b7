"""The demo: two customers, one article each from the default pipeline, and the admin to view them."""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils.translation import gettext as _

from audit.log.entries import record
from config import stack
from config.stack.lifecycle import is_running
from runs.models import WORKING, RunStatus
from runs.selectors import run_document
from runs.services.create import run_create
from runs.types import RunDocument
from tenants.errors import UnknownTenant
from tenants.lifecycle.create import tenant_create
from tenants.models import Tenant, TenantStatus
from tenants.presentation import tenant_document
from tenants.selectors import tenant_get
from tenants.types import OnProgress

POLL_S = 0.5
LOGIN = "demo"
# The servers that a run needs.
NEEDED = ("worker", "beat")


@dataclass(frozen=True)
class Customer:
    tenant_id: str
    name: str
    # A run's configuration. In English, since the small local model hardly knows any other language.
    config: dict[str, str]


def _config(keyword: str) -> dict[str, str]:
    """Return a run's configuration. The small model often repeats itself until its limit, which is good enough here."""
    return {"keyword": keyword, "language": "en", "on_truncation": "accept"}


CUSTOMERS = (
    Customer("demo-a", "Demo A (tea shop)", _config("green tea health benefits")),
    Customer("demo-b", "Demo B (coffee roaster)", _config("how to choose a coffee grinder")),
)


@dataclass(frozen=True)
class Login:
    username: str
    password: str


def ensure_tenants(on_progress: OnProgress) -> list[Tenant]:
    """Return the demo tenants; create those that are missing, and finish interrupted creations."""
    return [_ensure_tenant(customer, on_progress) for customer in CUSTOMERS]


def start_runs() -> list[tuple[str, str]]:
    """Create one run per tenant; return a list of (tenant id, run id)."""
    runs = [(customer, run_create(tenant_id=customer.tenant_id, config=customer.config)) for customer in CUSTOMERS]
    return [(customer.tenant_id, str(run.pk)) for customer, run in runs]


def follow(
    home: stack.Home, runs: Sequence[tuple[str, str]], on_progress: Callable[[RunDocument], None]
) -> list[RunDocument]:
    """Return the runs' documents once none is pending or running; raise StackError if worker or beat exits first."""
    while True:
        documents = [run_document(tenant_id=tenant_id, run_id=run_id) for tenant_id, run_id in runs]
        for document in documents:
            on_progress(document)
        if not any(document["status"] in WORKING for document in documents):
            return documents
        for name in NEEDED:
            require_running(home, name)
        time.sleep(POLL_S)


def require_running(home: stack.Home, name: str) -> None:
    if not is_running(home, name):
        raise stack.StackError(
            _("The %(name)s process has exited unexpectedly.") % {"name": name},
            hint=_("See %(log)s.") % {"log": home.log_file(name)},
            code="process_ended",
        )


def report(tenants: Sequence[Tenant], runs: Sequence[RunDocument]) -> dict[str, Any]:
    """Return the document that `--json` prints."""
    return {"tenants": [tenant_document(tenant) for tenant in tenants], "runs": list(runs)}


def succeeded(document: dict[str, Any]) -> bool:
    return all(run["status"] == RunStatus.COMPLETED for run in document["runs"])


def article_file(document: RunDocument) -> str:
    """Return the path or S3 address of the run's article."""
    bucket = settings.AWS_STORAGE_BUCKET_NAME
    root = f"s3://{bucket}" if bucket else str(settings.STORAGE_ROOT)
    return f"{root}/{document['artifacts'][-1]['file_path']}"


def new_login() -> Login:
    """Create the demo's superuser if it is missing, give it a new password, and return the login.

    Only the password's hash is stored.
    """
    password = secrets.token_urlsafe(9)
    with transaction.atomic(using="default"):
        user, created = User.objects.using("default").get_or_create(username=LOGIN)
        user.is_staff = user.is_superuser = user.is_active = True
        user.set_password(password)
        user.save(using="default")
        action = "user.create" if created else "user.change"
        record(using="default", action=action, resource_type="user", resource_id=str(user.pk))
    return Login(LOGIN, password)


def serve(home: stack.Home) -> None:
    """Wait for Ctrl-C; raise StackError if the web server exits before that."""
    try:
        while True:
            require_running(home, "web")
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        return


def _ensure_tenant(customer: Customer, on_progress: OnProgress) -> Tenant:
    try:
        tenant = tenant_get(customer.tenant_id)
        if tenant.status != TenantStatus.PROVISIONING:
            return tenant
    except UnknownTenant:
        pass
    return tenant_create(name=customer.name, tenant_id=customer.tenant_id, on_progress=on_progress)
