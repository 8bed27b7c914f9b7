"""The functions whose share of a step's time is measured."""

from importlib import import_module
from operator import attrgetter

import pytest

from benchmarks.engine.shares import TIMED

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("module", "path", "name"), TIMED)
def test_what_is_timed_exists(module: str, path: str, name: str) -> None:
    assert callable(attrgetter(path)(import_module(module))), name
