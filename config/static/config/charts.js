"use strict";

// The theme's grey is too faint for the axes of charts. The function is called at each change of the colour scheme.
// Registered before the theme's script, which draws the charts at the same event.
addEventListener("load", () => {
    const { scales } = DEFAULT_CHART_OPTIONS;
    for (const axis of [scales.x, scales.y]) axis.ticks.color = axisColor;
});

function axisColor() {
    const root = document.documentElement;
    const name = root.classList.contains("dark") ? "--color-font-default-dark" : "--color-font-default-light";
    return getComputedStyle(root).getPropertyValue(name).trim();
}
