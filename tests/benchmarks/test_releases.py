"""Each later release that fleets are migrated to in the benchmarks has one more migration than the one before."""

from pathlib import Path

import pytest
from django.db.migrations.loader import MigrationLoader

from benchmarks.tenants.releases import APP, Releases

pytestmark = pytest.mark.unit


def test_each_has_one_migration_more(tmp_path: Path) -> None:
    releases = Releases(tmp_path, 2)
    found = []

    for number in range(3):
        with releases.active(number):
            found.append({name for app, name in MigrationLoader(None).disk_migrations if app == APP})

    present = {name for app, name in MigrationLoader(None).disk_migrations if app == APP}
    assert found == [present, present | {"1001_benchmark"}, present | {"1001_benchmark", "1002_benchmark"}]
