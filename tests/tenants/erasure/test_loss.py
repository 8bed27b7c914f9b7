"""What a deletion will remove is described in words."""

from __future__ import annotations

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
