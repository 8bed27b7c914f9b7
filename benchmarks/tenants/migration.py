"""The time that an all-or-nothing migration of a fleet takes, and the time to find that nothing is pending."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from benchmarks.environment import Environment
from benchmarks.launch import Ended
from benchmarks.measure import interleaved, ratios, shares
from benchmarks.tables import Row, Table
from benchmarks.tenants.migrators import Floor, Product, Schemas, connecting
from benchmarks.tenants.releases import Releases

TENANTS = 200
ROUNDS = 5
IDLE_TENANTS = 1000
IDLE_ROUNDS = 4
WARM_UP = 1
MB = 1_000_000

# The phases that the command itself times; the rest is what it does before, between and after them.
PHASES = {
    "check": "check every tenant",
    "rehearse": "rehearse in a scratch database",
    "prepare": "prepare in every tenant",
    "decide": "decide",
    "commit": "commit in every tenant",
}
START, REST = "start: interpreter, Django, the list of tenants", "rest: records"


def migration(environment: Environment) -> list[Table]:
    """Migrate our tenants, plain databases and django-tenants schemas; then time a fleet with nothing to migrate."""
    # One for each round, and one for the large fleet at the end.
    releases = Releases(environment.home.path / "releases", WARM_UP + ROUNDS + 1)
    product = Product(environment, releases)
    product.grow_to(TENANTS)
    tables = _pending(product, Floor(environment, releases, TENANTS), Schemas(environment, releases, TENANTS))
    product.grow_to(IDLE_TENANTS)
    return [*tables, *_idle(environment, product)]


def _pending(product: Product, floor: Floor, schemas: Schemas) -> list[Table]:
    runs: list[Ended] = []

    def ours() -> float:
        runs.append(product.migrate())
        return runs[-1].seconds

    contenders = {"ours": ours, "floor": floor.migrate, "django-tenants": schemas.migrate}
    seconds = interleaved(contenders, rounds=ROUNDS, warm_up=WARM_UP)
    parts = [_parts(ended) for ended in runs[-ROUNDS:]]
    started = [ours_s - part[START] for ours_s, part in zip(seconds["ours"], parts, strict=True)]
    rows = [
        Row("whole command ÷ the SQL alone, in threads", ratios(seconds["ours"], seconds["floor"]), at_most=1.5),
        Row("command without its start ÷ the SQL alone", ratios(started, seconds["floor"])),
        Row("django-tenants ÷ whole command", ratios(seconds["django-tenants"], seconds["ours"]), at_least=5),
        Row("django-tenants ÷ the SQL alone", ratios(seconds["django-tenants"], seconds["floor"])),
    ]
    return [Table(f"Migrating {TENANTS} tenants", rows), _shares(f"Migrating {TENANTS} tenants", parts)]


def _idle(environment: Environment, product: Product) -> list[Table]:
    databases = product.databases()
    runs: list[Ended] = []

    def ours() -> float:
        runs.append(product.idle())
        return runs[-1].seconds

    contenders = {"ours": ours, "connecting": lambda: connecting(environment, databases)}
    seconds = interleaved(contenders, rounds=IDLE_ROUNDS, warm_up=WARM_UP)
    counted = runs[-IDLE_ROUNDS:]
    beyond = [one - other for one, other in zip(seconds["ours"], seconds["connecting"], strict=True)]
    rows = [
        Row("seconds of the command beyond those of connecting", beyond, at_most=3),
        Row("whole command ÷ connecting to every database", ratios(seconds["ours"], seconds["connecting"])),
        Row("memory of the command at its peak, MB", [ended.peak_bytes / MB for ended in counted], at_most=200),
        # Once, since it takes long and memory varies little.
        Row("the same where all have a migration, MB", [product.migrate().peak_bytes / MB], at_most=200),
    ]
    title = f"{IDLE_TENANTS:,} tenants with nothing to migrate"
    return [Table(title, rows), _shares(title, [_parts(ended) for ended in counted])]


def _shares(title: str, parts: Sequence[Mapping[str, float]]) -> Table:
    rows = [Row(name, values, percent=True) for name, values in shares(parts).items()]
    return Table(f"{title}: where the time goes", rows)


def _parts(ended: Ended) -> dict[str, float]:
    """Return the seconds that each part of a command's run took."""
    from tenants.models import MigrationBatch

    document = json.loads(ended.output)
    batch = MigrationBatch.objects.using("default").get(pk=document["batch_id"])
    parts = {START: batch.started_at.timestamp() - ended.started_at}
    parts |= {PHASES.get(name, name): taken_ms / 1000 for name, taken_ms in document["timing_ms"].items()}
    return {**parts, REST: ended.seconds - sum(parts.values())}
