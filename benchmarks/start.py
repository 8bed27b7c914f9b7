"""The processor time that starting a command takes, compared with Python that only imports Django or sets it up."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from benchmarks.environment import Environment
from benchmarks.launch import run
from benchmarks.measure import Timed, interleaved, ratios
from benchmarks.tables import Row, Table

ROUNDS = 15
MAIN = "import sys; from config.cli import main; sys.exit(main())"
# The parts of Django that every command with a database query has to load.
BARE = """
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "none"}},
)
django.setup()
"""


def start(environment: Environment) -> list[Table]:
    """Time commands that do almost nothing: `--help`, `tenant list`, and `run show` of a waiting run."""
    from runs.services.create import run_create
    from tenants.lifecycle.create import tenant_create

    tenant = tenant_create(name="start")
    shown = str(run_create(tenant_id=tenant.id, config={"keyword": "green tea"}).pk)

    def contender(*arguments: str) -> Timed:
        return lambda: _cpu_seconds(environment, arguments)

    seconds = interleaved(
        {
            "import django": contender("-c", "import django"),
            "django.setup": contender("-c", BARE),
            "--help": contender("-c", MAIN, "--help"),
            "tenant list": contender("-c", MAIN, "tenant", "list"),
            "run show": contender("-c", MAIN, "run", "show", "--tenant-id", tenant.id, "--run-id", shown),
        },
        rounds=ROUNDS,
    )
    rows = [Row(f"seconds: {name}", values, at_most=_aim(name)) for name, values in seconds.items()]
    for name in ("--help", "tenant list", "run show"):
        rows += [
            Row(f"{name} ÷ import django", ratios(seconds[name], seconds["import django"])),
            Row(f"{name} ÷ django.setup", ratios(seconds[name], seconds["django.setup"])),
        ]
    return [Table("Starting a command", rows)]


def _aim(name: str) -> float | None:
    return 0.4 if name in ("--help", "tenant list", "run show") else None


def _cpu_seconds(environment: Environment, arguments: Sequence[str]) -> float:
    output = environment.home.path / "command.out"
    ended = run([sys.executable, *arguments], output=output, log=environment.log("command"), environment=os.environ)
    return ended.cpu_seconds
