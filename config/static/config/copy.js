"use strict";

// A button with data-copy-text copies that.
document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy-text]");
    if (button) navigator.clipboard?.writeText(button.dataset.copyText);
});

// A button with data-copy copies the text of the field with that id.
document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const field = document.getElementById(button.dataset.copy);
    const status = document.getElementById("copy-status");
    let copied = false;
    try {
        await navigator.clipboard.writeText(field.value);
        copied = true;
    } catch {
        // Without TLS, or without the right: the old way, which needs a visible selection.
        const details = field.closest("details");
        if (details) details.open = true;
        field.select();
        copied = document.execCommand("copy");
    }
    if (status) status.textContent = copied ? button.dataset.copied : button.dataset.failed;
});
