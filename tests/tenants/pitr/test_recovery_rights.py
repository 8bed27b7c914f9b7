"""An administrator that lacks a right: the right is named with the statement that grants it, and nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from config.stack.postgres import binaries_folder
from tenants.errors import ServerError
from tenants.lifecycle.setup import server_register
from tenants.models import BaseBackup, DatabaseServer
from tenants.pitr.base_backup import cluster_backup
from tenants.pitr.receive_wal import cluster_receive_wal
from tenants.pitr.status import cluster_statuses
from tenants.servers.programs import ToolError
from tests.tenants.support.archives import forget
from tests.tenants.support.own_server import OwnServer, manual_script, own_server

LACKS = (
    "Its administrator lacks %s. As a superuser, run in the database of the administrator's URL:"
    ' %s TO "seo_gen_admin";'
)
REPLICATION = (
    "Its administrator lacks REPLICATION. As a superuser, run in the database of the administrator's URL:"
    ' ALTER ROLE "seo_gen_admin" REPLICATION;'
)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    with own_server(tmp_path_factory.mktemp("own"), binaries_folder(), script=manual_script()) as server:
        yield server


@pytest.fixture(scope="module")
def server(own: OwnServer) -> Iterator[DatabaseServer]:
    registered = server_register(name="modest", admin_url=own.url())
    registered.wal_archive = str(own.archive)
    registered.save()
    yield registered
    forget(registered)


@contextmanager
def without(own: OwnServer, taken: str, given: str) -> Iterator[None]:
    with own.as_superuser() as superuser:
        superuser.execute(taken)
        try:
            yield
        finally:
            superuser.execute(given)


def problems(server: DatabaseServer) -> list[str]:
    [status] = cluster_statuses(server_name=server.name)
    return [problem for problem in status.problems if "base backup" not in problem]


def test_with_the_manuals_rights_nothing_is_missing(server: DatabaseServer) -> None:
    assert problems(server) == []


@pytest.mark.parametrize(
    "function",
    [
        *("pg_switch_wal()", "pg_create_restore_point(text)", "pg_ls_waldir()"),
        *("pg_control_system()", "pg_control_checkpoint()"),
    ],
)
def test_status_names_each_function(own: OwnServer, server: DatabaseServer, function: str) -> None:
    taken = f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC, pg_monitor, seo_gen_admin"
    grant = f"GRANT EXECUTE ON FUNCTION {function}"
    with without(own, taken, f"{grant} TO seo_gen_admin"):
        assert problems(server) == [LACKS % (f"EXECUTE on {function}", grant)]


def test_a_base_backup_names_a_function_that_it_needs(own: OwnServer, server: DatabaseServer) -> None:
    taken = "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC, seo_gen_admin"
    with without(own, taken, "GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC"):
        with pytest.raises(ServerError, match=r"lacks EXECUTE on pg_control_system\(\)\.") as refused:
            cluster_backup(server_name=server.name)
        assert "GRANT EXECUTE ON FUNCTION pg_control_system() TO" in refused.value.hint
    assert not BaseBackup.objects.filter(server=server).exists()


def test_without_replication(own: OwnServer, server: DatabaseServer) -> None:
    with without(own, "ALTER ROLE seo_gen_admin NOREPLICATION", "ALTER ROLE seo_gen_admin REPLICATION"):
        assert problems(server) == [REPLICATION]
        for refused in (cluster_backup, cluster_receive_wal):
            with pytest.raises(ServerError, match="The administrator of database server modest lacks REPLICATION"):
                refused(server_name=server.name)
    assert not BaseBackup.objects.filter(server=server).exists()


def test_without_a_line_for_replication_in_pg_hba(own: OwnServer, server: DatabaseServer, tmp_path: Path) -> None:
    file = own.data / "pg_hba.conf"
    lines = file.read_text()
    file.write_text("\n".join(line for line in lines.splitlines() if "replication" not in line) + "\n")
    try:
        with without(own, "SELECT pg_reload_conf()", "SELECT 1"), pytest.raises(ToolError) as refused:
            cluster_backup(server_name=server.name, output=str(tmp_path / "base"))
    finally:
        file.write_text(lines)
        with own.as_superuser() as superuser:
            superuser.execute("SELECT pg_reload_conf()")
    assert 'host replication "seo_gen_admin" ADDRESS scram-sha-256' in refused.value.hint
