"""Every block in the stylesheets is closed: browsers silently drop what follows an open one."""

import re

import pytest

from config.stack.paths import CHECKOUT

pytestmark = pytest.mark.unit

STYLESHEETS = sorted((CHECKOUT / "config" / "static" / "config").glob("*.css"))


def test_every_block_is_closed_before_the_next_one_begins() -> None:
    assert STYLESHEETS
    for file in STYLESHEETS:
        code = re.sub(r"/\*.*?\*/", "", file.read_text(), flags=re.DOTALL)
        depth = 0
        for number, line in enumerate(code.splitlines(), 1):
            # Only blocks inside others are indented.
            assert depth == 0 or not re.match(r"[^\s}]", line), f"{file.name}:{number}"
            depth += line.count("{") - line.count("}")
        assert depth == 0, file.name
