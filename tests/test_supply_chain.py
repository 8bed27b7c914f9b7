"""Packages are installed only with their sha256 hashes, whatever their source, and no file names a source."""

from __future__ import annotations

import re
import tomllib

import pytest

from config.stack.paths import CHECKOUT

pytestmark = pytest.mark.unit

FILES = [*CHECKOUT.glob("requirements*.txt"), CHECKOUT / "benchmarks" / "requirements.txt"]
PIN = re.compile(r"^[a-z0-9._-]+(\[[a-z0-9,_-]+\])?==\S+( ; .+?)?$")
HASH = re.compile(r"^--hash=sha256:[0-9a-f]{64}$")


def requirements(text: str) -> list[list[str]]:
    """Return a list for each requirement: its pin, then its hashes."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    whole = "\n".join(lines).replace("\\\n", "\n")
    found: list[list[str]] = []
    for line in filter(None, (part.strip() for part in whole.splitlines())):
        if line.startswith("--hash"):
            found[-1].append(line)
        else:
            found.append([line])
    return found


@pytest.mark.parametrize("name", sorted(str(file.relative_to(CHECKOUT)) for file in FILES))
def test_every_version_is_pinned_with_its_hashes_and_no_registry_is_named(name: str) -> None:
    text = (CHECKOUT / name).read_text()
    assert "://" not in text and "index-url" not in text and "--find-links" not in text
    found = requirements(text)
    assert found
    for pin, *hashes in found:
        assert PIN.match(pin), pin
        assert hashes and all(HASH.match(one) for one in hashes), pin


def test_one_version_of_each_package_in_all_files_that_are_installed_together() -> None:
    versions: dict[str, set[str]] = {}
    for name in ("requirements.txt", "requirements-embedded.txt", "requirements-dev.txt"):
        for pin, *_hashes in requirements((CHECKOUT / name).read_text()):
            package, _equals, version = pin.partition(" ;")[0].partition("==")
            versions.setdefault(package.partition("[")[0], set()).add(version)
    assert {package: found for package, found in versions.items() if len(found) > 1} == {}


def test_make_installs_nothing_without_its_hash() -> None:
    """The project itself is exempt, since it is here already, and its build uses only what is installed."""
    lines = (CHECKOUT / "Makefile").read_text().splitlines()
    recipes = [line.strip().removeprefix("@") for line in lines if line.startswith("\t")]
    by_pip = [line for line in recipes if line.startswith(("$(PIP) install", "$(INSTALL)"))]
    assert "INSTALL = $(PIP) install $(QUIET) --require-hashes" in lines
    others = [line for line in by_pip if not line.startswith("$(INSTALL) ")]
    assert others == ["$(PIP) install --quiet --no-deps --no-build-isolation --editable . >&2"]
    assert len(by_pip) - len(others) == 7


def test_the_build_uses_what_is_pinned_for_it() -> None:
    needed = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["build-system"]["requires"]
    pinned = [pin for pin, *_hashes in requirements((CHECKOUT / "requirements-build.txt").read_text())]
    assert [re.split(r"[<>=]", one)[0] for one in needed] == [one.partition("==")[0] for one in pinned]
