"use strict";

// Select2 gives the search field of a choice of several no name: it gets the label of the choice.
document.addEventListener("focusin", () => nameSearchFields());
addEventListener("load", () => nameSearchFields());

// On a narrow screen, each value of a list has its column's heading before it.
addEventListener("load", () => {
    for (const cell of document.querySelectorAll("[data-label]")) {
        const label = cell.dataset.label;
        cell.dataset.label = label.charAt(0).toUpperCase() + label.slice(1);
    }
});

function nameSearchFields() {
    for (const field of document.querySelectorAll(".select2-search__field:not([aria-label])")) {
        const choice = field.closest(".select2-container")?.previousElementSibling;
        const label = choice?.labels?.[0];
        if (label) field.setAttribute("aria-label", label.textContent.trim());
    }
}
