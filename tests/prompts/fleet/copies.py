"""What tests of copies compare, and processes that die while they copy prompts or undo a copy."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from multiprocessing.connection import Connection
from typing import Any

from prompts.models import Prompt
from prompts.services import prompt_create_active
from tenants.models import MigrationBatch, Tenant
from tenants.routing.context import tenant_context
from tenants.types import BatchProgress
from tests.support.forked import forked
from tests.tenants.support.fleets import as_owner

KEYWORD: dict[str, object] = {"name": "keyword", "type": "string", "required": True}
TEXT = "Copied: {{ keyword }}"
# Everything that a copy could have changed, with the transaction that wrote it.
ROWS = """
SELECT 'prompt', id, xmin::text, concat_ws(' ', step, version, is_active, author, note, md5(content)) FROM prompts
UNION ALL SELECT 'audit', id, entry_hash, action FROM audit_logs
ORDER BY 1, 2
"""


def make_source(tenant: Tenant, content: str = TEXT, step: str = "draft") -> Prompt:
    """Give the tenant a new active version of the step's prompt, and return it."""
    with tenant_context(tenant) as alias:
        return prompt_create_active(alias=alias, step=step, content=content, variables=[KEYWORD], note="to be copied")


def rows_of(tenants: Iterable[Tenant]) -> dict[str, list[Any]]:
    found = {}
    for tenant in tenants:
        with as_owner(tenant) as connection:
            found[tenant.id] = connection.execute(ROWS).fetchall()
    return found


def active_text(tenant: Tenant, step: str = "draft") -> str:
    with tenant_context(tenant) as alias:
        return Prompt.objects.using(alias).get(step=step, is_active=True).content


def newest_batch() -> MigrationBatch:
    return MigrationBatch.objects.order_by("-started_at")[0]


def copy_and_die(phase: str, done: int, **keywords: Any) -> None:
    """Copy in a separate process; `kill -9` it when `done` items of a phase are done."""
    _die("prompts.fleet.copy:prompt_copy", phase, done, keywords)


def undo_and_die(phase: str, done: int, **keywords: Any) -> None:
    _die("prompts.fleet.undo:prompt_copy_undo", phase, done, keywords)


def _die(service: str, phase: str, done: int, keywords: dict[str, Any]) -> None:
    with forked(_call_and_die, service, phase, done, keywords) as (process, heard):
        process.join()
        problem = heard.recv() if process.exitcode != -signal.SIGKILL and heard.poll() else ""
        assert process.exitcode == -signal.SIGKILL, problem or f"it has no {done} of the phase {phase}"


def _call_and_die(_said: Connection, service: str, phase: str, done: int, keywords: dict[str, Any]) -> None:
    import pkgutil

    def die(progress: BatchProgress) -> None:
        if (progress.phase, progress.done) == (phase, done):
            os.kill(os.getpid(), signal.SIGKILL)

    pkgutil.resolve_name(service)(**keywords, workers=1, on_progress=die)
