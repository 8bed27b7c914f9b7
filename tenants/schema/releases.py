"""The tenant migrations in the code, and how a database's applied migrations compare with them. Uses no database.

A migration is named by its key, ("runs", "0003_x"). A squashed migration stands for those that it replaces.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path

from django.db.migrations.loader import MigrationLoader
from django.db.models import TextChoices
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tenants.routing.router import TENANT_APPS

Key = tuple[str, str]
History = frozenset[Key]


class SchemaState(TextChoices):
    """How a tenant's schema version compares with the code's."""

    CURRENT = "current", gettext_lazy("current")
    BEHIND = "behind", gettext_lazy("behind")
    AHEAD = "ahead", gettext_lazy("ahead of the code")
    UNKNOWN = "unknown", gettext_lazy("unknown")


@dataclass(frozen=True)
class Release:
    """The tenant migrations of the running code, without those that a squashed one replaces."""

    # {key: keys that it replaces}
    migrations: dict[Key, tuple[Key, ...]]
    # {key: keys that must be applied before it}
    parents: dict[Key, tuple[Key, ...]]
    # The newest migration of each app.
    targets: tuple[Key, ...]

    @property
    def version(self) -> str:
        return _version(self.targets)

    def is_applied(self, key: Key, history: History) -> bool:
        """Return whether `key`, or everything that it replaces, was applied."""
        replaced = self.migrations.get(key, ())
        return key in history or (bool(replaced) and all(one in history for one in replaced))

    def is_complete(self, history: History) -> bool:
        """Return whether nothing is left to apply."""
        return all(self.is_applied(key, history) for key in self.migrations)

    def version_of(self, history: History) -> str:
        """Return the version: the newest applied migration of each app, such as "audit.0001_initial prompts.0003_x".

        Applied migrations that this code does not know are named too.
        """
        applied = {key for key in self.migrations if self.is_applied(key, history)}
        superseded = {parent for key in applied for parent in self.parents[key] if parent[0] == key[0]}
        covered = {one for key in applied for one in self.migrations[key]}
        return _version((applied - superseded) | (history - applied - covered))

    def state_of(self, version: str) -> SchemaState:
        """Return how a version, such as `tenants.schema_version`, compares with this code's."""
        if not version:
            return SchemaState.UNKNOWN
        if version == self.version:
            return SchemaState.CURRENT
        known = set(map(label, self._known))
        return SchemaState.BEHIND if set(version.split()) <= known else SchemaState.AHEAD

    def problem(self, history: History) -> str:
        """Return why nothing can be applied on top of `history`, or ""."""
        unknown = sorted(history - self._known)
        if unknown:
            return _("The database is ahead of this code, which does not know %(names)s.") % {
                "names": ", ".join(map(label, unknown))
            }
        for key, parents in sorted(self.parents.items()):
            for parent in parents:
                if self.is_applied(key, history) and not self.is_applied(parent, history):
                    return _(
                        "The database's migration history is inconsistent: %(name)s is applied without %(parent)s."
                    ) % {
                        "name": label(key),
                        "parent": label(parent),
                    }
        return ""

    @property
    def _known(self) -> History:
        return frozenset(self.migrations) | {key for replaced in self.migrations.values() for key in replaced}


def release() -> Release:
    """Return the tenant apps' migrations on disk; read them again only if a file was added, removed or changed."""
    return _read(tuple((str(path), path.stat().st_mtime_ns) for path in sorted(migration_files())))


def migration_files() -> Iterator[Path]:
    """Yield the files of the tenant apps' migrations."""
    for app in sorted(TENANT_APPS):
        package = import_module(str(MigrationLoader.migrations_module(app)[0]))
        for folder in package.__path__:
            yield from (path for path in Path(folder).rglob("*") if path.is_file() and path.suffix != ".pyc")


@lru_cache(maxsize=4)
def _read(_files: tuple[tuple[str, int], ...]) -> Release:
    graph = MigrationLoader(None).graph
    ours = [key for key in graph.nodes if key[0] in TENANT_APPS]
    return Release(
        migrations={key: tuple(graph.nodes[key].replaces) for key in ours},
        parents={key: tuple(sorted(node.key for node in graph.node_map[key].parents)) for key in ours},
        targets=tuple(sorted(key for key in graph.leaf_nodes() if key[0] in TENANT_APPS)),
    )


def label(key: Key) -> str:
    return ".".join(key)


def short(version: str) -> str:
    """Shorten a version for display: "runs.0002_guards_and_costs" to "runs.0002"."""
    return " ".join(re.sub(r"(\.\d+)_.*", r"\1", name) for name in version.split())


def digest_of(history: Iterable[Key]) -> str:
    """Return the key by which a history is looked up: sha256 (hex) of its sorted names."""
    return hashlib.sha256("\n".join(sorted(map(label, history))).encode()).hexdigest()


def _version(keys: Iterable[Key]) -> str:
    return " ".join(sorted(map(label, keys)))
