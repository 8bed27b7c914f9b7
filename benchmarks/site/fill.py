"""Rows for the pages: a tenant with 200,000 runs, and 1,000 others with 200,000 run summaries in all and with costs.

A superuser inserts them with SQL, because creating them as people do would take hours. The files that the
rows name do not exist; the pages read none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from benchmarks.environment import Environment

if TYPE_CHECKING:
    from tenants.models import Tenant

TENANTS = 1_000
RUNS = 200_000
DAYS = 60

# %(tenant)s is a real tenant. The others are copies of its row: no page of the control site may ask their databases.
CONTROL_ROWS = (
    """
    INSERT INTO tenants (id, name, database_url, is_active, status, server_id)
    SELECT 'copy-' || n, 'Copy ' || n, database_url, true, 'active', server_id
      FROM tenants, generate_series(1, %(tenants)s) AS n WHERE id = %(tenant)s
    """,
    """
    INSERT INTO run_summaries (tenant_id, run_id, status, current_step, is_truncated, created_at, updated_at)
    SELECT 'copy-' || n %% %(tenants)s + 1, gen_random_uuid(),
           (ARRAY['completed', 'completed', 'completed', 'running', 'pending', 'failed'])[n %% 6 + 1],
           CASE n %% 6 WHEN 0 THEN NULL WHEN 1 THEN NULL WHEN 2 THEN NULL ELSE 'draft' END,
           false, now() - n * interval '20 seconds', now() - n * interval '20 seconds'
      FROM generate_series(1, %(runs)s) AS n
    """,
    """
    INSERT INTO daily_costs (tenant_id, day, step, provider, model, calls, unknown_calls, unpriced_calls, token_usage,
                             cost_usd, possible_usd)
    SELECT 'copy-' || n, current_date - d, step, 'local', 'm', 10, 0, 0, '{"input": 9000, "output": 4000}', 0.25, 0
      FROM generate_series(1, %(tenants)s) AS n, generate_series(0, %(days)s) AS d,
           unnest(ARRAY['keyword_analysis', 'outline', 'draft', 'final']) AS step
    """,
    """
    INSERT INTO control_audit_logs (user_id, action, resource_type, resource_id, details)
    SELECT 'staff:somebody', 'tenant.suspend', 'tenant', 'copy-' || n, '{}'::jsonb
      FROM generate_series(1, %(tenants)s) AS n
    """,
)
TENANT_ROWS = (
    """
    INSERT INTO runs (status, config, created_at, updated_at, is_summarized)
    SELECT 'completed', jsonb_build_object('keyword', 'keyword ' || n, 'language', 'ja'),
           now() - n * interval '20 seconds', now() - n * interval '20 seconds', true
      FROM generate_series(1, %(runs)s) AS n
    """,
    """
    INSERT INTO steps (run_id, step, status, position, llm_provider, llm_model, token_usage, started_at, completed_at,
                       output_path, output_digest, summary, metrics)
    SELECT id, step, 'completed', number, 'local', 'm', '{"input": 900, "output": 400}', created_at, created_at,
           'path', 'digest', 'summary', '{}'::jsonb
      FROM runs, unnest(ARRAY['keyword_analysis', 'outline', 'draft', 'final']) WITH ORDINALITY AS s (step, number)
    """,
    """
    INSERT INTO artifacts (run_id, step, file_type, file_path, digest, metadata, created_at)
    SELECT id, 'final', 'text/markdown', 'storage/article-' || id || '.md', 'digest', '{"size_bytes": 5000}', created_at
      FROM runs
    """,
    """
    INSERT INTO audit_logs (user_id, action, resource_type, resource_id, details)
    SELECT 'staff:somebody', 'run.create', 'run', id::text, '{}'::jsonb FROM runs LIMIT %(tenants)s
    """,
)


def fill(environment: Environment, tenant: Tenant) -> None:
    """Add the rows to the control database and to the tenant's database."""
    from django.db import connections

    values = {"tenant": tenant.id, "tenants": TENANTS, "runs": RUNS, "days": DAYS}
    databases = ((str(connections["default"].settings_dict["NAME"]), CONTROL_ROWS), (database_of(tenant), TENANT_ROWS))
    for database, statements in databases:
        url = environment.postgres_url.rpartition("/")[0] + f"/{database}"
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement, values)
            connection.execute("VACUUM ANALYZE")


def database_of(tenant: Tenant) -> str:
    return str(tenant.database_url).rpartition("/")[2].partition("?")[0]
