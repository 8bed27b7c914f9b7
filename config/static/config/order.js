"use strict";

// Reorder the rows of a list, by drag or by the buttons of each row. Only the positions change; the form saves them.
(() => {
    const SPACING = 10;
    const start = () => {
        const table = document.querySelector("table[data-order-by]");
        if (!table) return;
        const rows = () => [...table.tBodies];
        const field = (row) => row.querySelector(`input[name$="-${table.dataset.orderBy}"]`);
        const buttons = (row) => [...row.querySelectorAll("button[data-move]")];
        const nameOf = (row) => row.querySelector("[data-order-name]").dataset.orderName;

        // The rows share the positions that they had; a row that stays where it is keeps its own.
        const renumber = () => {
            const fields = rows().map(field);
            const held = fields.map((input) => Number.parseInt(input.value, 10)).sort((a, b) => a - b);
            const areDistinct = held.every((value, index) => Number.isInteger(value) && value !== held[index - 1]);
            fields.forEach((input, index) => {
                input.value = String(areDistinct ? held[index] : (index + 1) * SPACING);
                input.dispatchEvent(new Event("change", { bubbles: true }));
            });
        };
        const refresh = () => {
            const all = rows();
            all.forEach((row, index) => {
                const [up, down] = buttons(row);
                up.setAttribute("aria-disabled", String(index === 0));
                down.setAttribute("aria-disabled", String(index === all.length - 1));
            });
        };
        const moved = (row) => {
            renumber();
            refresh();
            const all = rows();
            const status = document.querySelector("[data-order-status]");
            status.textContent = status.dataset.moved
                .replace("%(step)s", nameOf(row))
                .replace("%(number)s", String(all.indexOf(row) + 1))
                .replace("%(total)s", String(all.length));
        };

        table.addEventListener("click", (event) => {
            const button = event.target.closest("button[data-move]");
            if (!button || button.getAttribute("aria-disabled") === "true") return;
            const row = button.closest("tbody");
            const all = rows();
            const other = all[all.indexOf(row) + Number(button.dataset.move)];
            if (button.dataset.move === "1") other.after(row);
            else other.before(row);
            button.focus();
            moved(row);
        });
        // The event of the theme's drag and drop, when a row was dropped.
        table.addEventListener("end", (event) => moved(event.item));
        for (const row of rows()) for (const button of buttons(row)) button.hidden = false;
        refresh();
    };
    document.addEventListener("DOMContentLoaded", start);
})();
