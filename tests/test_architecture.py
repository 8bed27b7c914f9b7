"""The map of rooms in docs/architecture.md matches the code, and no room has too many modules."""

import re
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from config.base.commands import OUR_APPS
from config.stack.paths import CHECKOUT

pytestmark = pytest.mark.unit

MAP = CHECKOUT / "docs" / "architecture.md"
# Beside `__init__`.
MODULES_MAX = 15
# Every app has these; their names are fixed by Django, and what is in them is found by its own name.
DJANGOS = {"management", "migrations"}


def test_the_map_has_every_room_of_the_product_and_no_other() -> None:
    assert sorted(_mapped()) == sorted(room for app in OUR_APPS for room in _rooms(CHECKOUT / app))


def test_the_map_lists_rooms_from_the_top_layer_down() -> None:
    layers = {app: _layers(app) for app in OUR_APPS}
    places = [(room, layers[room.split("/")[0]][room.split("/")[1]]) for room in _mapped() if "/" in room]
    upwards = [
        (above, below)
        for (above, layer_above), (below, layer_below) in pairwise(places)
        if above.split("/")[0] == below.split("/")[0] and layer_above > layer_below
    ]
    assert upwards == []


def test_no_room_is_too_full() -> None:
    sizes = {
        room: len(_modules(CHECKOUT / room))
        for folder in (*OUR_APPS, "tests", "benchmarks")
        for room in _rooms(CHECKOUT / folder)
    }
    assert {room for room, size in sizes.items() if size > MODULES_MAX} == set()


def _mapped() -> list[str]:
    """Return the rooms in the order of the map, such as "tenants/restore"."""
    return re.findall(r"^\| `([\w/]+)/` \|", MAP.read_text(), flags=re.MULTILINE)


def _rooms(folder: Path) -> Iterator[str]:
    """Yield the folder and the folders below it that contain modules or are packages, except Django's own."""
    if _modules(folder) or (folder / "__init__.py").exists():
        yield str(folder.relative_to(CHECKOUT))
    for inner in folder.iterdir():
        if inner.is_dir() and inner.name not in DJANGOS:
            yield from _rooms(inner)


def _modules(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.py") if path.name != "__init__.py"]


def _layers(app: str) -> dict[str, int]:
    """Return the import contract's layer number, 0 being the top, for each part of the app."""
    contracts = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (own,) = [contract for contract in contracts if contract.get("containers") == [app]]
    return {part: number for number, layer in enumerate(own["layers"]) for part in layer.split(" | ")}
