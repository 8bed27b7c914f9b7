"""Tenants created one after the other can be told apart, and every text in a site's color can be read."""

from itertools import pairwise

import pytest

from config.site.frame.colors import CONTROL_HUE, HUES, contrast, hue_of, palette

pytestmark = pytest.mark.unit

ENOUGH = 4.5
# Grounds of the theme: white, the menu, an active entry; and the same in dark.
LIGHT = ("#ffffff", "#f9fafb", "#f3f4f6")
DARK = ("#101828", "#1e2939", "#030712")


@pytest.mark.parametrize("hue", [*HUES, CONTROL_HUE])
def test_text_in_the_colour_can_be_read(hue: int) -> None:
    shades = palette(hue)
    assert contrast(shades["600"], "#ffffff") >= ENOUGH
    for ground in (*LIGHT, shades["100"]):
        assert contrast(shades["700"], ground) >= ENOUGH, ground
    for ground in LIGHT:
        assert contrast(shades["600"], ground) >= ENOUGH, ground
    for ground in DARK:
        assert contrast(shades["500"], ground) >= ENOUGH, ground
        assert contrast(shades["400"], ground) >= ENOUGH, ground


def test_contrast_is_wcags() -> None:
    assert round(contrast("#000000", "#ffffff"), 2) == 21
    assert round(contrast("#777777", "#ffffff"), 2) == 4.48


def test_neighbours_in_time_are_far_apart() -> None:
    hues = [hue_of(rank) for rank in range(3 * len(HUES))]
    assert set(hues) == set(HUES)
    assert min(_distance(*pair) for pair in pairwise(hues)) >= 60
    assert min(_distance(hue, CONTROL_HUE) for hue in HUES) >= 25
    assert min(_distance(one, other) for one in HUES for other in HUES if one != other) >= 25


def _distance(one: int, other: int) -> int:
    apart = abs(one - other) % 360
    return min(apart, 360 - apart)
