"""`make screenshots`: a picture of every page of both sites, in each language, colour scheme and width.

    python -m tests.support.browser.screenshots [--home FOLDER] [--output FOLDER] [--only TEXT] [--quick]

The first call fills a demonstration in its home, var/screenshots-home; later calls use it again. The pictures go to
var/screenshots/<language>-<scheme>-<width>/.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from config import stack
from config.stack.paths import CHECKOUT

if TYPE_CHECKING:
    from tests.support.browser.chromium import Browser
    from tests.support.browser.pages import Known

LANGUAGES = ("ja", "en")
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WIDTHS = (1366, 820)
HEIGHT = 900
# A taller page is cut.
HEIGHT_MAX = 4000
USER = "screenshots"


def main() -> None:
    given = _arguments()
    os.environ["SEO_GEN_HOME"] = str(given.home)
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    _fill(given.home)
    home = stack.Home(given.home)
    # The worker is needed for none of the pages, but the first one says whether a worker is running.
    stack.start(home, ["worker"])
    try:
        print(_take(given), file=sys.stderr)
    finally:
        if not given.keep:
            stack.stop(home)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=CHECKOUT / "var" / "screenshots-home")
    parser.add_argument("--output", type=Path, default=CHECKOUT / "var" / "screenshots")
    parser.add_argument("--only", default="", help="Only pages whose address matches this expression.")
    parser.add_argument("--quick", action="store_true", help="Only Japanese, light, 1366 pixels wide.")
    parser.add_argument("--kinds", default="", help="Only these, such as ja-dark-820,en-light-1366.")
    parser.add_argument("--keep", action="store_true", help="Leave the servers running.")
    return parser.parse_args()


def _fill(home: Path) -> None:
    """Create the demonstration, unless an earlier call did."""
    if (home / "filled").exists():
        return
    home.mkdir(parents=True, exist_ok=True)
    program = [sys.executable, "-m", "config.cli", "demo", "--no-serve", "--json"]
    subprocess.run(program, check=True, stdout=subprocess.DEVNULL)
    (home / "filled").touch()


def _take(given: argparse.Namespace) -> str:
    import django

    django.setup()
    from tests.support.browser.chromium import Browser, chrome, serving

    pictures = 0
    with serving() as server, tempfile.TemporaryDirectory() as profile, chrome(Path(profile)) as driver:
        browser = Browser(driver, server)
        for language, scheme, width in _kinds(given):
            folder = given.output / f"{language}-{scheme}-{width}"
            folder.mkdir(parents=True, exist_ok=True)
            known = _log_in(browser, language)
            browser.prefer(scheme)
            for path in _pages(known, given.only):
                _picture(browser, path, width, folder)
                pictures += 1
            browser.forget()
    return f"{pictures} pictures are in {given.output}."


def _kinds(given: argparse.Namespace) -> Iterator[tuple[str, Literal["light", "dark"], int]]:
    wanted = {"ja-light-1366"} if given.quick else {*filter(None, given.kinds.split(","))}
    for language, scheme, width in product(LANGUAGES, SCHEMES, WIDTHS):
        if not wanted or f"{language}-{scheme}-{width}" in wanted:
            yield language, scheme, width


def _log_in(browser: Browser, language: str) -> Known:
    """Give the browser a session and a language; return the rows to visit."""
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.test import Client

    from config.demo import CUSTOMERS
    from runs.models import Artifact, Run, Step
    from tenants.routing.context import tenant_context
    from tests.support.browser.pages import Known

    user, _created = User.objects.get_or_create(
        username=USER, defaults={"is_staff": True, "is_superuser": True, "is_active": True}
    )
    client = Client()
    client.force_login(user)
    browser.set_cookie(settings.SESSION_COOKIE_NAME, client.cookies[settings.SESSION_COOKIE_NAME].value)
    browser.set_cookie(settings.LANGUAGE_COOKIE_NAME, language)
    tenant_id = CUSTOMERS[0].tenant_id
    with tenant_context(tenant_id):
        run = Run.objects.order_by("created_at")[0]
        step = Step.objects.filter(run=run).order_by("-position")[0]
        artifact = Artifact.objects.filter(run=run).order_by("pk")[0]
        return Known(tenant_id, str(user.pk), str(run.pk), str(step.pk), str(artifact.pk))


def _pages(known: Known, only: str) -> Iterator[str]:
    from tests.support.browser.pages import control_pages, tenant_pages

    for path in (*control_pages(known), *tenant_pages(known)):
        if re.search(only, path):
            yield path


def _picture(browser: Browser, path: str, width: int, folder: Path) -> None:
    browser.resize(width, HEIGHT)
    browser.open(path)
    height = browser.driver.execute_script("return document.documentElement.scrollHeight")
    browser.resize(width, min(max(int(height), HEIGHT), HEIGHT_MAX))
    name = re.sub(r"[^a-z0-9]+", "-", path.lower()).strip("-") or "root"
    browser.driver.save_screenshot(str(folder / f"{name[:120]}.png"))


if __name__ == "__main__":
    main()
