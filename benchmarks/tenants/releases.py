"""Later releases of the product, each with one more migration, for the product's command and its rivals."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.children import CHECKOUT

APP = "runs"
# These tell a process which release it is.
FOLDER_VARIABLE, PACKAGE_VARIABLE = "BENCHMARK_RELEASES", "BENCHMARK_RELEASE"
# A nullable column, and a table with a foreign key to one that exists.
MIGRATION = """\
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("{app}", "{previous}")]
    operations = [
        migrations.AddField("Run", "label_{number}", models.TextField(null=True)),
        migrations.CreateModel(
            name="Note{number}",
            fields=[
                ("id", models.BigAutoField(primary_key=True)),
                ("run", models.ForeignKey("runs.Run", on_delete=models.CASCADE)),
                ("text", models.TextField(db_default="")),
            ],
            options={{"db_table": "run_notes_{number}"}},
        ),
    ]
"""


class Releases:
    """Releases 0, 1, 2 …: the current migrations of `runs`, plus as many more as the release's number."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        present = CHECKOUT / APP / "migrations"
        before, previous = [present], max(path.stem for path in present.glob("0*.py"))
        self._add(0, before)
        for number in range(1, count + 1):
            own, name = self._add(number, before), self.migration(number)
            (own / f"{name}.py").write_text(MIGRATION.format(app=APP, previous=previous, number=number))
            before, previous = [*before, own], name

    @staticmethod
    def migration(number: int) -> str:
        """Return the name of the release's own migration."""
        return f"{1000 + number}_benchmark"

    def environment(self, number: int) -> dict[str, str]:
        """Return variables that make a child process run this release, if its settings call `migration_modules`."""
        return {FOLDER_VARIABLE: str(self._folder), PACKAGE_VARIABLE: self._package(number)}

    @contextmanager
    def active(self, number: int) -> Iterator[None]:
        """Use the release's migrations in this process for the duration of the block."""
        from django.test import override_settings

        if str(self._folder) not in sys.path:
            sys.path.append(str(self._folder))
        with override_settings(MIGRATION_MODULES={APP: self._package(number)}):
            yield

    def _add(self, number: int, before: Sequence[Path]) -> Path:
        """Create the release's package, which also contains the previous releases' modules; return its folder."""
        own = self._folder / self._package(number)
        own.mkdir(parents=True)
        (own / "__init__.py").write_text(f"__path__ += {list(map(str, before))!r}\n")
        return own

    @staticmethod
    def _package(number: int) -> str:
        return f"benchmark_release_{number}"


def migration_modules() -> dict[str, str]:
    """Return MIGRATION_MODULES for the release that the environment names, made importable; {} if it names none."""
    if PACKAGE_VARIABLE not in os.environ:
        return {}
    sys.path.append(os.environ[FOLDER_VARIABLE])
    return {APP: os.environ[PACKAGE_VARIABLE]}
