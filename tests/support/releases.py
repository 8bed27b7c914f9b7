"""Later releases of the product: its own migrations plus some more, for this process or for commands."""

from __future__ import annotations

import importlib
import sys
import textwrap
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.test import override_settings

from config.stack.paths import CHECKOUT

# Adds a column, and a table with a foreign key to another.
PLAIN = """
    operations = [
        migrations.AddField("Run", "label", models.TextField(null=True)),
        migrations.CreateModel(
            name="Note",
            fields=[
                ("id", models.BigAutoField(primary_key=True)),
                ("run", models.ForeignKey("runs.Run", on_delete=models.CASCADE)),
                ("text", models.TextField(db_default="")),
            ],
            options={"db_table": "run_notes"},
        ),
    ]
"""
FILE = """\
from django.db import migrations, models

{code}

class Migration(migrations.Migration):
    dependencies = [("{app}", "{previous}")]
{operations}
"""


class NextRelease:
    """A package with an app's current migrations and additional ones."""

    def __init__(self, folder: Path, app: str = "runs") -> None:
        self.folder = folder
        self.app = app
        # A unique name, since Python keeps what it has imported.
        self.package = f"{app}_{uuid.uuid4().hex[:12]}"
        self._own = folder / self.package
        self._own.mkdir(parents=True)
        present = CHECKOUT / app / "migrations"
        (self._own / "__init__.py").write_text(f"__path__.append({str(present)!r})\n")
        self._previous = sorted(path.stem for path in present.glob("0*.py"))[-1]

    def add(self, name: str, operations: str = PLAIN, *, code: str = "", after: str = "") -> NextRelease:
        """Add a migration after the last one or after `after`.

        `operations` is the rest of the migration class's body; `code` stands before the class.
        """
        source = FILE.format(
            app=self.app, previous=after or self._previous, code=textwrap.dedent(code), operations=operations.rstrip()
        )
        (self._own / f"{name}.py").write_text(source)
        self._previous = name
        importlib.invalidate_caches()
        return self

    def remove(self, name: str) -> None:
        (self._own / f"{name}.py").unlink()

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that make a command in another process belong to this release."""
        return {
            "DJANGO_SETTINGS_MODULE": "tests.support.next_release",
            "NEXT_RELEASE_FOLDER": str(self.folder),
            "NEXT_RELEASE_APP": self.app,
            "NEXT_RELEASE_PACKAGE": self.package,
        }

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make this process belong to the release for the duration of the block."""
        sys.path.insert(0, str(self.folder))
        try:
            with override_settings(MIGRATION_MODULES={self.app: self.package}):
                yield
        finally:
            sys.path.remove(str(self.folder))
