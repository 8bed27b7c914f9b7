"""The color of each tenant's site. Tenants created one after another differ clearly, and text stays readable.

A site's palette is one hue in the shades of the theme. Lightness differs by hue, because a yellow of the same lightness
as a blue has less contrast. The colors are computed with CSS Color 4's matrices for OKLCH.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

# Easy to tell apart, and far from the control site's blue and from the red of destructive actions.
HUES = (48, 75, 105, 135, 165, 195, 225, 290, 320, 345)
CONTROL_HUE = 262
# Coprime to the number of hues, so every hue is used; consecutive tenants are three places apart in the circle.
STRIDE = 3
# WCAG 2.2, 1.4.3, with a little in reserve for rounding.
CONTRAST = 4.6
# Behind text in the primary color: an active menu entry, light and dark.
LIGHT_GROUND = "#f3f4f6"
DARK_GROUND = "#1e2939"
# The chroma of the shades, as far as the screen can show it, and the lightness of those without text.
CHROMA = {
    "50": 0.014,
    "100": 0.033,
    "200": 0.063,
    "300": 0.11,
    "400": 0.15,
    "500": 0.16,
    "600": 0.16,
    "700": 0.15,
    "800": 0.12,
    "900": 0.1,
    "950": 0.08,
}
LIGHTNESS = {"50": 0.977, "100": 0.946, "200": 0.902, "300": 0.827, "800": 0.38, "900": 0.33, "950": 0.26}

RGB = tuple[float, float, float]


def hue_of(rank: int) -> int:
    """Return the hue of the tenant that was created after `rank` others."""
    return HUES[rank * STRIDE % len(HUES)]


@cache
def palette(hue: int) -> dict[str, str]:
    """Return the shades of a hue as #rrggbb, by name."""
    lightness = {
        **LIGHTNESS,
        "400": _lightest_needed(hue, "400", DARK_GROUND, start=0.74),
        "500": _lightest_needed(hue, "500", DARK_GROUND, start=0.64),
        "600": _darkest_needed(hue, "600", LIGHT_GROUND, start=0.55),
    }
    lightness["700"] = lightness["600"] - 0.06
    return {shade: _shown(lightness[shade], chroma, hue) for shade, chroma in CHROMA.items()}


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colors as WCAG defines it: 1 to 21."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _lightest_needed(hue: int, shade: str, ground: str, start: float) -> float:
    return _until_readable(start, 0.005, lambda light: _shown(light, CHROMA[shade], hue), ground)


def _darkest_needed(hue: int, shade: str, ground: str, start: float) -> float:
    return _until_readable(start, -0.005, lambda light: _shown(light, CHROMA[shade], hue), ground)


def _until_readable(lightness: float, step: float, shown: Callable[[float], str], ground: str) -> float:
    while contrast(shown(lightness), ground) < CONTRAST:
        lightness += step
    return lightness


def _shown(lightness: float, chroma: float, hue: int) -> str:
    """Return the color with as much of the chroma as a screen can show."""
    while chroma > 0 and not all(-0.0005 <= part <= 1.0005 for part in _linear(lightness, chroma, hue)):
        chroma -= 0.002
    parts = (round(255 * _gamma(min(1.0, max(0.0, part)))) for part in _linear(lightness, max(chroma, 0.0), hue))
    return "#" + "".join(f"{part:02x}" for part in parts)


def _linear(lightness: float, chroma: float, hue: int) -> RGB:
    """Return OKLCH as linear sRGB."""
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def _gamma(part: float) -> float:
    return 12.92 * part if part <= 0.0031308 else 1.055 * part ** (1 / 2.4) - 0.055


def _luminance(color: str) -> float:
    red, green, blue = (_degamma(int(color[at : at + 2], 16) / 255) for at in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _degamma(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else float(((part + 0.055) / 1.055) ** 2.4)
