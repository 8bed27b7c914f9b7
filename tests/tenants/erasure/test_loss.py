"""What a deletion will remove is described in words."""

from __future__ import annotations

from dataclasses import replace

from django.utils import translation

from tenants.erasure.delete import tenant_loss
from tenants.erasure.loss import loss_lines
from tenants.erasure.presentation import rows_of
from tenants.models import Tenant


def test_the_rows_of_every_table_have_words(tenant: Tenant) -> None:
    loss = tenant_loss(tenant_id=tenant.id)
    with translation.override("ja"):
        assert [table for table in loss.rows if rows_of(table).isascii()] == []
        lines = "\n".join(loss_lines(loss))
    assert "実行 0, 工程 0, 成果物 0, プロンプト 4" in lines
    assert rows_of("of_another_release") == "of_another_release"


def test_a_database_that_cannot_be_read_is_named_instead_of_no_rows(tenant: Tenant) -> None:
    text = "\n".join(loss_lines(replace(tenant_loss(tenant_id=tenant.id), rows={})))
    assert "Its database is gone or cannot be read, so its rows cannot be counted, and its audit log may be" in text
    assert "rows: " not in text and "is kept" not in text
