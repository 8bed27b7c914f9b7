"""The parameters of a chaos run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields

STEPS = ("keyword_analysis", "outline", "draft", "final")
# Short, so that a minute has many of each. Workers, beat and people all read them from the environment.
LEASE_S = 2.0
TIMES = {
    "RUN_LEASE_S": LEASE_S,
    "RUN_SWEEP_INTERVAL_S": 1.0,
    "RUN_REPLY_KEPT_S": 20.0,
    "LLM_TIMEOUT_S": 4.0,
    "LLM_STALL_TIMEOUT_S": 1.5,
    "LLM_BREAKER_OPEN_S": 0.5,
    "LLM_BREAKER_OPEN_MAX_S": 2.0,
    "DATABASE_IDLE_IN_TRANSACTION_TIMEOUT_S": 3.0,
    "DATABASE_LOCK_TIMEOUT_S": 5.0,
    "WORKER_STOP_WAIT_S": 2.0,
    "AUDIT_ANCHOR_INTERVAL_S": 0.0,
}


@dataclass(frozen=True)
class Plan:
    tenants: int = 3
    runs: int = 24
    # The chaos lasts at least this long, and until each kind of disturbance has happened once.
    seconds: float = 0.0
    workers: int = 2
    # Threads of each worker.
    concurrency: int = 6
    people: int = 2
    # The share of the provider's answers that have a fault.
    faults: float = 0.25
    seed: str = "13"
    # RabbitMQ's URL; "": a Valkey of our own.
    amqp: str = ""
    # Whether outputs are stored in S3.
    s3: bool = False
    # A folder for the logs of workers, beat and servers; "": they are not kept.
    logs: str = ""
    # How long everything may take to come to rest afterwards. A limit in case of a hang.
    rest_s: float = 150.0

    def arguments(self) -> list[str]:
        """Return the words that make `read_plan` return this plan."""
        words: list[str] = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                words += [f"--{field.name}"] if value is True else [f"--{field.name}", str(value)]
        return words


def read_plan(words: Sequence[str] | None = None) -> Plan:
    parser = argparse.ArgumentParser(prog="python -m tests.runs.chaos", description="Chaos for the run engine.")
    for field in fields(Plan):
        if isinstance(field.default, bool):
            parser.add_argument(f"--{field.name}", action="store_true")
        else:
            parser.add_argument(f"--{field.name}", type=type(field.default), default=field.default)
    return Plan(**vars(parser.parse_args(words)))
