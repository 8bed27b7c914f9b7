"""Run axe-core in the browser: it finds what people with low vision or a screen reader cannot use on a page."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

from tests.support.browser.chromium import Browser

# Installed beside the packages and without its dependencies (requirements-axe.txt): only the script is needed.
SCRIPT = Path(sys.prefix) / "share" / "axe" / "axe_playwright_python" / "axe.min.js"
# Every rule counts, whatever its impact.
RUN = """
const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ["violations"]}).then(
    (found) => done(found.violations.flatMap((one) => one.nodes.map(
        (node) => `${one.impact} ${one.id}: ${node.target.join(" ")} | ${node.html.slice(0, 160)}`))),
    (error) => done([`axe failed: ${error}`]));
"""
SHOW = "document.documentElement.className = arguments[0]"
STILL = "*, *::before, *::after { transition: none !important; animation: none !important }"


@cache
def script() -> str:
    return SCRIPT.read_text()


def violations(browser: Browser) -> list[str]:
    """Return the violations that axe-core finds on the open page in both themes: one line for each rule and
    element.
    """
    driver = browser.driver
    # The policy of the pages refuses scripts from elsewhere; the driver's own are not the page's.
    driver.execute_script(script())
    driver.execute_script(
        "const style = document.createElement('style'); style.textContent = arguments[0]; document.head.append(style)",
        STILL,
    )
    found: list[str] = []
    for scheme in ("light", "dark"):
        driver.execute_script(SHOW, scheme)
        found += [f"{scheme} {line}" for line in driver.execute_async_script(RUN)]
    return found
