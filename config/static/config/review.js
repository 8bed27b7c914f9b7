"use strict";

// The keys of the queue of reviews; the page's own dialog explains them.
(() => {
    const find = (id) => document.getElementById(id);
    const help = () => find("review-help")?.showModal();
    const keys = {
        j: () => find("review-next")?.click(),
        n: () => find("review-next")?.click(),
        k: () => find("review-previous")?.click(),
        p: () => find("review-previous")?.click(),
        // Enter then approves: one key alone is easily hit by accident.
        a: () => find("review-approve")?.focus(),
        s: () => document.querySelector("textarea[name=comment]")?.focus(),
        "?": help,
    };

    document.addEventListener("DOMContentLoaded", () => find("review-help-button")?.addEventListener("click", help));
    document.addEventListener("keydown", (event) => {
        if (event.isComposing) return; // of an input method
        const isTyping = event.target.closest("textarea, input, select") !== null;
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.name === "comment") {
            event.preventDefault();
            find("review-send-back").click();
        } else if (!isTyping && !event.ctrlKey && !event.metaKey && !event.altKey && keys[event.key]) {
            event.preventDefault();
            keys[event.key]();
        }
    });
})();
