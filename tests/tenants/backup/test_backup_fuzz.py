"""Backups and bundles damaged in random places are refused and change nothing, unless the damage is harmless or
undetectable.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_django import Settings

from config.base.errors import SeoGenError
from tenants.errors import ImportRefused, RestoreRefused
from tenants.files import tenant_storage
from tenants.models import Tenant
from tenants.restore.restore import tenant_restore
from tenants.transfer.export import tenant_export
from tenants.transfer.import_ import tenant_import
from tenants.unfinished import tenant_recover
from tests.support.tenant_fixtures import remove
from tests.tenants.conftest import AgeKey
from tests.tenants.support.backups import back_up
from tests.tenants.support.created import new_id, tenants_objects
from tests.tenants.support.filled import add_run, everything_of
from tests.tenants.support.restores import scratch_things

# `make chaos` runs more of them.
ROUNDS = 2 * int(os.environ.get("CHAOS_ROUNDS", "6"))


def flip(content: bytearray, chance: random.Random) -> None:
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def cut(content: bytearray, chance: random.Random) -> None:
    del content[chance.randrange(len(content)) :]


def lose(content: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(content))
    del content[start : start + chance.randrange(1, 5000)]


def overwrite(content: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(content))
    content[start : start + 64] = chance.randbytes(64)


def insert(content: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(content))
    content[start:start] = chance.randbytes(chance.randrange(1, 64))


DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (flip, cut, lose, overwrite, insert)


def damaged(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    while bytes(changed) == content:
        chance.choice(DAMAGES)(changed, chance)
    return bytes(changed)


def refusal_of(attempt: Callable[[], object]) -> SeoGenError | None:
    """Return the refusal of the attempt, or None if it succeeded; raise anything else, which is a defect."""
    try:
        attempt()
    except SeoGenError as error:
        return error
    return None


@pytest.mark.chaos
@pytest.mark.parametrize("kind", ["custom", "plain", "encrypted", "manifest"])
def test_a_damaged_backup_never_changes_the_live_database(
    tenant: Tenant, tmp_path: Path, age_key: AgeKey, kind: str, settings: Settings
) -> None:
    # Damage can make pg_restore loop forever; this is how long it takes to notice.
    settings.RESTORE_STALL_S = 10.0
    chance = random.Random(os.environ.get("CHAOS_SEED", kind))
    add_run(tenant)
    file = Path(
        back_up(
            tenant,
            tmp_path / "b",
            dump_format="plain" if kind == "plain" else "custom",
            recipient=age_key.recipient if kind == "encrypted" else "",
        )
    )
    target = Path(f"{file}.json") if kind == "manifest" else file
    whole, live = target.read_bytes(), everything_of(tenant)
    for _ in range(ROUNDS):
        target.write_bytes(damaged(whole, chance))
        refusal = refusal_of(
            lambda: tenant_restore(
                tenant_id=tenant.id, backup_file=str(file), age_identity_file=age_key.age_identity_file
            )
        )
        if refusal:
            assert isinstance(refusal, RestoreRefused) and tenant.id in str(refusal)
            assert everything_of(tenant) == live
        else:
            # Damage that does not matter is possible only in a manifest, such as in its blanks or the tenant's name.
            assert kind == "manifest"
            live = everything_of(tenant)
    assert tenant_recover() == []
    assert tenant.server is not None and scratch_things(tenant.server.admin_url) == []


@pytest.mark.chaos
def test_a_damaged_dump_of_unknown_origin_is_refused_or_whole(tenant: Tenant, tmp_path: Path) -> None:
    """Without a digest, damage to a row's text may go undetected.

    Either the restore is refused and changes nothing, or everything in the tenant can be read afterwards.
    """
    chance = random.Random(os.environ.get("CHAOS_SEED", "unknown"))
    add_run(tenant)
    for dump_format in ("custom", "plain"):
        whole = Path(back_up(tenant, tmp_path / "b", dump_format=dump_format)).read_bytes()
        for number in range(ROUNDS // 2):
            file = tmp_path / f"{dump_format}-{number}"
            file.write_bytes(damaged(whole, chance))
            live = everything_of(tenant)
            if refusal_of(lambda file=file: tenant_restore(tenant_id=tenant.id, backup_file=str(file))):  # type: ignore[misc]
                assert everything_of(tenant) == live
            else:
                everything_of(tenant)
    assert tenant_recover() == []


@pytest.mark.chaos
@pytest.mark.parametrize("sealed", [False, True], ids=["plain text", "encrypted"])
def test_a_damaged_bundle_brings_nothing_in(tenant: Tenant, tmp_path: Path, age_key: AgeKey, sealed: bool) -> None:
    chance = random.Random(os.environ.get("CHAOS_SEED", f"bundle {sealed}"))
    add_run(tenant)
    bundle = tmp_path / "bundle"
    tenant_export(tenant_id=tenant.id, output=str(bundle), recipient=age_key.recipient if sealed else "")
    whole, live, target, before = bundle.read_bytes(), everything_of(tenant), new_id(), tenants_objects()
    for _ in range(ROUNDS):
        bundle.write_bytes(damaged(whole, chance))
        refusal = refusal_of(
            lambda: tenant_import(file=str(bundle), new_id=target, age_identity_file=age_key.age_identity_file)
        )
        if refusal:
            assert isinstance(refusal, ImportRefused) and str(bundle) in str(refusal)
            assert not Tenant.objects.filter(pk=target).exists()
            assert tenants_objects() == before and list(tenant_storage.objects_of(target)) == []
        else:
            # The damage was in the padding of tar's blocks, or in a field that no one reads.
            assert not sealed
            remove(Tenant.objects.get(pk=target))
            tenant_storage.remove([one.path for one in tenant_storage.objects_of(target)])
    assert everything_of(tenant) == live
    assert tenant_recover() == []
