"use strict";

// Select2 gives the search field of a choice of several no name: it gets the label of the choice.
document.addEventListener("focusin", () => nameSearchFields());
addEventListener("load", () => nameSearchFields());

// On a narrow screen, each value of a list has its column's heading before it.
addEventListener("load", () => {
    // The theme takes the first column for that of the checkboxes, also where there are none.
    const first = document.querySelector("#result_list thead th:not(.action-checkbox-column)");
    for (const cell of document.querySelectorAll("[data-label]")) {
        const isFirst = first && cell.matches("#result_list td:first-child") && !cell.querySelector(".action-select");
        const label = isFirst ? first.textContent.trim().split("\n")[0] : cell.dataset.label;
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
