"""How fast a long audit log is verified, compared with only reading the hashed data, and in how much memory."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import psycopg

from benchmarks.environment import Environment
from benchmarks.launch import Ended, run
from benchmarks.measure import interleaved, ratios, seconds_of
from benchmarks.tables import Row, Table

if TYPE_CHECKING:
    from tenants.models import Tenant

ROUNDS = 5
MB = 1_000_000
ENTRIES = 500_000
# Each entry leaves a dead version of the chain's head, and a transaction has to step over all that it left itself.
PER_COMMIT = 200
FILL = """
INSERT INTO audit_logs (user_id, action, resource_type, resource_id, details, operation_id)
SELECT 'worker:host-1', 'step.complete', 'step', md5(number::text),
       jsonb_build_object('run', md5(number::text), 'step', 'draft', 'digest', md5(number::text) || md5(number::text)),
       md5((number / 10)::text)
  FROM generate_series(1, %s) AS number
"""
# Reads and joins every byte that a hash covers, without hashing.
FLOOR = """
SELECT count(*), sum(octet_length(concat(sequence, previous_hash, entry_hash, created_at, user_id, action,
                                         resource_type, resource_id, details, operation_id)))
  FROM audit_logs
"""


def audit_verify(environment: Environment) -> list[Table]:
    """Verify a tenant's log of half a million entries: time the service, and measure the memory of the command."""
    from audit.verification.anchor import audit_anchor
    from audit.verification.verify import audit_verify as verify
    from tenants.schema.inspection import database_of

    small, big = _tenant("small-log"), _tenant("big-log")
    url = environment.postgres_url.rpartition("/")[0] + f"/{database_of(big)}"
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in range(ENTRIES // PER_COMMIT):
            connection.execute(FILL, [PER_COMMIT])
        connection.execute("VACUUM ANALYZE audit_logs")
        audit_anchor()

        def floor() -> float:
            return seconds_of(lambda: connection.execute(FLOOR))

        seconds = interleaved(
            {"ours": lambda: seconds_of(lambda: verify(tenant_id=big.id)), "floor": floor}, rounds=ROUNDS
        )
    memory = {tenant.id: [_command(environment, tenant).peak_bytes / MB for _ in range(3)] for tenant in (small, big)}
    rows = [
        Row("entries verified per second", [ENTRIES / value for value in seconds["ours"]], at_least=200_000),
        Row("verifying ÷ reading alone", ratios(seconds["ours"], seconds["floor"])),
        Row("memory of the command at its peak, MB", memory[big.id], at_most=200),
        Row("the same ÷ with a log of one entry", ratios(memory[big.id], memory[small.id]), at_most=1.05),
    ]
    return [Table("Verifying an audit log of 500,000 entries", rows)]


def _tenant(name: str) -> Tenant:
    from tenants.lifecycle.create import tenant_create

    return tenant_create(name=name)


def _command(environment: Environment, tenant: Tenant) -> Ended:
    main = "import sys; from config.cli import main; sys.exit(main())"
    program = [sys.executable, "-c", main, "audit", "verify", "--tenant-id", tenant.id]
    output = environment.home.path / "command.out"
    return run(program, output=output, log=environment.log("command"), environment=dict(os.environ))
