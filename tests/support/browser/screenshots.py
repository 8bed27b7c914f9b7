"""`make screenshots`: a picture of every page of both sites, in each language, color scheme and width.

`python -m tests.support.browser.screenshots --help` lists the options.

The first call creates a demonstration in var/screenshots-home; later calls use it again. The pictures go to
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
from contextlib import contextmanager
from itertools import groupby, product
from operator import itemgetter
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
PROGRAM = (sys.executable, "-c", "import sys; from config.cli import main; sys.exit(main())")


def main() -> None:
    given = _arguments()
    os.environ["SEO_GEN_HOME"] = str(given.home)
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    _fill(given.home)
    home = stack.Home(given.home)
    # No worker: it would continue the runs whose states are shown.
    stack.start(home, ["postgres", "valkey"])
    stack.stop(home, ["worker", "beat"])
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
    parser.add_argument("--kinds", default="", help="Only these kinds, such as ja-dark-820,en-light-1366.")
    parser.add_argument("--keep", action="store_true", help="Leave the servers running.")
    return parser.parse_args()


def _fill(home: Path) -> None:
    """Create the demonstration, unless an earlier call did."""
    if (home / "filled").exists():
        return
    home.mkdir(parents=True, exist_ok=True)
    program = [*PROGRAM, "demo", "--no-serve", "--json"]
    subprocess.run(program, check=True, stdout=subprocess.DEVNULL)
    (home / "filled").touch()


def _take(given: argparse.Namespace) -> str:
    import django

    django.setup()
    from django.conf import settings

    from tests.support.browser.chromium import Browser, chrome, serving
    from tests.support.browser.visits import visits

    pictures = 0
    with (
        serving() as server,
        tempfile.TemporaryDirectory() as profile,
        chrome(Path(profile)) as driver,
    ):
        browser = Browser(driver, server)
        for language, kinds in groupby(_kinds(given), key=itemgetter(0)):
            with _filled(language) as (known, session):
                for _language, scheme, width in kinds:
                    folder = given.output / f"{language}-{scheme}-{width}"
                    folder.mkdir(parents=True, exist_ok=True)
                    browser.prefer(scheme)
                    browser.set_cookie(settings.LANGUAGE_COOKIE_NAME, language)
                    for name, visit in visits(known):
                        if not re.search(given.only, name):
                            continue
                        browser.set_cookie(*session)
                        browser.resize(width, HEIGHT)
                        visit(browser)
                        _picture(browser, name, width, folder)
                        pictures += 1
                    browser.forget()
    return f"{pictures} pictures are in {given.output}."


def _kinds(given: argparse.Namespace) -> Iterator[tuple[str, Literal["light", "dark"], int]]:
    wanted = {"ja-light-1366"} if given.quick else {*filter(None, given.kinds.split(","))}
    for language, scheme, width in product(LANGUAGES, SCHEMES, WIDTHS):
        if not wanted or f"{language}-{scheme}-{width}" in wanted:
            yield language, scheme, width


@contextmanager
def _filled(language: str) -> Iterator[tuple[Known, tuple[str, str]]]:
    """Insert the rows of all pages; yield their ids, and the cookie of a session as (name, value)."""
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.test import Client

    from config.demo import CUSTOMERS
    from runs.workers_seen import worker_seen
    from tenants.models import Tenant
    from tests.support.browser.rows import filled_pages

    user, _created = User.objects.get_or_create(
        username=USER, defaults={"is_staff": True, "is_superuser": True, "is_active": True}
    )
    client = Client()
    client.force_login(user)
    # The first page says whether a worker is running.
    worker_seen()
    tenant = Tenant.objects.get(pk=CUSTOMERS[0].tenant_id)
    with filled_pages(tenant, user, language=language) as known:
        yield known, (settings.SESSION_COOKIE_NAME, client.cookies[settings.SESSION_COOKIE_NAME].value)


def _picture(browser: Browser, name: str, width: int, folder: Path) -> None:
    height = browser.driver.execute_script("return document.documentElement.scrollHeight")
    browser.resize(width, min(max(int(height), HEIGHT), HEIGHT_MAX))
    file = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "root"
    browser.driver.save_screenshot(str(folder / f"{file[:120]}.png"))


if __name__ == "__main__":
    main()
