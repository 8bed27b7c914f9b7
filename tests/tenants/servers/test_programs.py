"""PostgreSQL's programs: how a failure without a message is reported."""

from __future__ import annotations

import pytest

from tenants.servers import programs
from tenants.servers.programs import ToolError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("script", "sentence"),
    [("exit 3", "sh failed: exit status 3."), ("kill -KILL $$", "sh failed: signal 9.")],
)
def test_a_program_that_printed_nothing_is_reported_by_how_it_ended(script: str, sentence: str) -> None:
    with pytest.raises(ToolError) as failure:
        programs.run(["sh", "-c", script], {})
    assert failure.value.message == sentence
