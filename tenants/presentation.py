"""How commands show tenants: the JSON documents, and tables for people."""

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from tenants.models import Tenant
from tenants.types import Progress


def tenant_document(tenant: Tenant) -> dict[str, Any]:
    """Return what `--json` says of a tenant; the URL is masked."""
    return {
        "id": tenant.id,
        "name": tenant.name,
        "status": tenant.status,
        "is_active": tenant.is_active,
        "server": tenant.server_id,
        "database_url": tenant.masked_url,
        "created_at": tenant.created_at,
    }


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table on stdout, as wide as its content where stdout is no terminal, so that lines can be grepped."""
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 400, highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*[str(value) for value in row])
    console.print(table)


def show_progress(progress: Progress) -> None:
    """Print the step on stderr, where it is a terminal."""
    if sys.stderr.isatty():
        print(f"{progress.tenant_id}: {progress.step}", file=sys.stderr)
