"""What axe-core does not measure is visible in light and dark mode: axes, unchecked boxes, borders, scroll bars."""

from __future__ import annotations

from typing import Literal

import pytest

from tests.support.browser.chromium import CHROMIUM, DRIVER, Browser
from tests.support.staff import Filled

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no Chromium or chromedriver on the PATH"),
]
# WCAG 2.2: 1.4.3 for text, 1.4.11 for controls.
TEXT, CONTROL = 4.5, 3
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
# Colors are drawn, since styles can name them in any color space.
MEASURE = """
const context = Object.assign(document.createElement("canvas"), {width: 1, height: 1})
    .getContext("2d", {willReadFrequently: true});
const luminance = (...colors) => {
    context.clearRect(0, 0, 1, 1);
    for (const one of ["white", ...colors]) { context.fillStyle = one; context.fillRect(0, 0, 1, 1); }
    const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map((byte) => byte / 255)
        .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (one) => {
    const found = [];
    for (let at = one.parentElement; at; at = at.parentElement) found.unshift(getComputedStyle(at).backgroundColor);
    return found;
};
const contrast = (color, one) => {
    const [high, low] = [luminance(...behind(one), color), luminance(...behind(one))].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
};
"""
AXES = """
return [...document.querySelectorAll("canvas.chart")].flatMap((canvas) => {
    const {x, y} = Chart.getChart(canvas).scales;
    return [x, y].map((axis) => contrast(axis.options.ticks.setContext(axis.getContext(0)).color, canvas));
});
"""
CHOICES = """
return [...document.querySelectorAll("input[type=radio]:not(:checked), input[type=checkbox]:not(:checked)")]
    .filter((one) => one.checkVisibility()).map((one) => {
        const style = getComputedStyle(one);
        return [Math.max(contrast(style.backgroundColor, one),
            parseFloat(style.borderTopWidth) ? contrast(style.borderTopColor, one) : 0), one.outerHTML.slice(0, 80)];
    });
"""

# The border may be that of what surrounds a field, such as an amount with its currency.
FIELDS = """
const around = (one) => [one, one.parentElement, one.parentElement.parentElement];
const lined = (one) => parseFloat(getComputedStyle(one).borderBottomWidth) > 0;
const buttons = "[type=radio], [type=checkbox], [type=submit], [type=file]";
const fields = `input:not(${buttons}), select, textarea, .select2-selection`;
return [...document.querySelectorAll(fields)].filter((one) => one.checkVisibility() && one.offsetWidth > 4)
    .map((one) => [one, around(one).find(lined)])
    .map(([one, edge]) => [edge ? contrast(getComputedStyle(edge).borderBottomColor, edge) : 0,
        one.outerHTML.slice(0, 120)]);
"""


def test_the_axes_of_charts_are_legible_in_each_scheme(staffed: Browser) -> None:
    staffed.open("/admin/")
    for scheme in (*SCHEMES, "light"):
        # As the theme's own switch does it.
        staffed.driver.execute_script("document.documentElement.className = arguments[0]", scheme)
        staffed.wait_until(lambda: min(staffed.driver.execute_script(MEASURE + AXES)) >= TEXT)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_not_chosen_is_visible(scheme: Literal["light", "dark"], staffed: Browser, filled: Filled) -> None:
    staffed.prefer(scheme)
    for page in (
        "/admin/llm/stepllmdefault/draft/change/",
        "/admin/auth/user/add/",
        "/admin/auth/user/",
        f"/admin/tenants/tenant/{filled.tenant.pk}/back-up/",
        f"{filled.site}runs/run/",
        f"{filled.site}runs/stepoverride/add/",
    ):
        staffed.open(page)
        faint = [one for one in staffed.driver.execute_script(MEASURE + CHOICES) if one[0] < CONTROL]
        assert faint == [], page


@pytest.mark.parametrize("scheme", SCHEMES)
def test_fields_have_visible_borders(scheme: Literal["light", "dark"], staffed: Browser, filled: Filled) -> None:
    staffed.prefer(scheme)
    measured = 0
    for page in (
        "/admin/password_change/",
        "/admin/costs/",
        "/admin/llm/llmmodel/",
        "/admin/llm/llmmodel/add/",
        "/admin/auth/user/add/",
        f"/admin/tenants/tenant/{filled.tenant.pk}/restore/",
        f"/admin/tenants/tenant/{filled.tenant.pk}/erase/",
        f"{filled.site}runs/run/",
        f"{filled.site}runs/run/add/",
        f"{filled.site}runs/run/series/",
        f"{filled.site}prompts/prompt/1/compare/",
        f"{filled.site}prompts/prompt/add/",
        f"{filled.site}audit/auditlog/",
    ):
        staffed.open(page)
        found = staffed.driver.execute_script(MEASURE + FIELDS)
        measured += len(found)
        assert [one for one in found if one[0] < CONTROL] == [], page
    assert measured > 30


def test_scroll_bars_are_dark_in_dark(staffed: Browser) -> None:
    for scheme in SCHEMES:
        staffed.prefer(scheme)
        staffed.open("/admin/")
        shown = staffed.driver.execute_script("return getComputedStyle(document.documentElement).colorScheme")
        assert (shown == "dark") == (scheme == "dark")
