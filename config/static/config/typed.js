"use strict";

// The theme asks before a page is left on which something was typed. A page that was sent, and came back with an error,
// still has what was typed, and none of it is saved.
addEventListener("load", () => {
    const form = document.querySelector("form.warn-unsaved-form");
    const failed = form?.querySelector(".errornote, [aria-invalid=true]");
    // Once the theme listens, which it begins on the same event.
    if (failed) setTimeout(() => form.querySelector("input, textarea, select")?.dispatchEvent(new Event("input")));
});
