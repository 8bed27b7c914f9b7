"""How much a database that is being loaded may use on disk."""

from typing import Any

import pytest
from django.conf import settings

from tenants.restore.load_limits import SMALLEST_LIMIT_BYTES, LoadGuard

GIB = 2**30


@pytest.mark.parametrize(
    ("dump_bytes", "read_bytes", "limit"),
    [
        (None, 5 * GIB, None),
        (1, 5 * GIB, SMALLEST_LIMIT_BYTES),
        (5 * GIB, 1, settings.RESTORE_MAX_GROWTH * 5 * GIB),
        # A pipe, whose size is unknown.
        (0, 1, SMALLEST_LIMIT_BYTES),
        (0, 5 * GIB, settings.RESTORE_MAX_GROWTH * 5 * GIB),
    ],
)
def test_it_grows_with_the_dump_or_with_what_was_read_of_a_pipe(
    dump_bytes: int | None, read_bytes: int, limit: int | None
) -> None:
    scratch: Any = None
    guard = LoadGuard(scratch, dump_bytes)
    guard.advance(read_bytes)
    assert guard.limit_bytes() == limit
