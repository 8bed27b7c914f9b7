"""Steps of the pipeline are moved with the keyboard or by dragging, and saved with the list."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from llm.keys import KEY_VARIABLES
from llm.models import StepLLMDefault
from tests.support.browser.chromium import CHROMIUM, DRIVER, Browser

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no Chromium or chromedriver on the PATH"),
]
PAGE = "/admin/llm/stepllmdefault/"


@pytest.fixture(autouse=True)
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """The positions of the steps, restored afterwards, and a key for every provider."""
    for variable in KEY_VARIABLES.values():
        monkeypatch.setenv(variable, "sk-test")
    held = dict(StepLLMDefault.objects.values_list("step", "position"))
    yield held
    for step, position in held.items():
        StepLLMDefault.objects.filter(pk=step).update(position=position)


def shown(browser: Browser) -> list[str]:
    return [
        row.get_attribute("data-order-name") or ""
        for row in browser.driver.find_elements(By.CSS_SELECTOR, "[data-order-name]")
    ]


def stored() -> list[str]:
    return list(StepLLMDefault.objects.order_by("position", "step").values_list("step", flat=True))


def save(browser: Browser) -> None:
    browser.click("[name=_save]")
    browser.wait_for_text("changed successfully")


def test_the_buttons_move_a_step_by_keyboard(staffed: Browser, pipeline: dict[str, int]) -> None:
    staffed.open(PAGE)
    before = shown(staffed)
    assert before == stored()
    staffed.find("[aria-label='Move final up']").send_keys(Keys.ENTER)
    # The focus stays on the button, so that the key moves the step again.
    focused = staffed.driver.switch_to.active_element
    assert focused.get_attribute("aria-label") == "Move final up"
    focused.send_keys(Keys.SPACE)
    first, second, *_others, last = before
    assert shown(staffed)[:3] == [first, last, second]
    status = staffed.driver.find_element(By.CSS_SELECTOR, "[role=status][data-order-status]")
    assert status.text == f"final is now step 2 of {len(before)}. Save to keep this order."
    assert stored() == before
    save(staffed)
    assert stored() == shown(staffed) == [first, last, second, *before[2:-1]]
    # The steps share the positions that they had.
    assert sorted(pipeline.values()) == sorted(StepLLMDefault.objects.values_list("position", flat=True))
    assert staffed.complaints() == []


def test_the_first_step_cannot_move_up(staffed: Browser) -> None:
    staffed.open(PAGE)
    before = shown(staffed)
    button = staffed.find(f"[aria-label='Move {before[0]} up']")
    assert button.get_attribute("aria-disabled") == "true"
    button.send_keys(Keys.ENTER)
    assert shown(staffed) == before


def test_steps_at_the_same_position_are_spread(staffed: Browser) -> None:
    StepLLMDefault.objects.update(position=0)
    staffed.open(PAGE)
    before = shown(staffed)
    staffed.find(f"[aria-label='Move {before[0]} down']").send_keys(Keys.ENTER)
    save(staffed)
    assert stored() == [before[1], before[0], *before[2:]]


def test_a_step_is_dragged(staffed: Browser) -> None:
    staffed.open(PAGE)
    before = shown(staffed)
    handles = staffed.driver.find_elements(By.CSS_SELECTOR, "[x-sort\\:handle]")
    drag = ActionChains(staffed.driver).click_and_hold(handles[0]).pause(0.2).move_by_offset(0, 10)
    drag.move_to_element(handles[1]).pause(0.2).move_by_offset(0, 12).pause(0.2).release().perform()
    assert shown(staffed) == [before[1], before[0], *before[2:]]
    save(staffed)
    assert stored() == [before[1], before[0], *before[2:]]
    assert staffed.complaints() == []
