"use strict";

// The part of a page marked `data-live` polls for itself. Anything else that comes back stops it, or is waited out.
(() => {
    const isLive = (element) => element.hasAttribute("data-live");
    const notice = () => document.getElementById("live-notice");

    function show(kind) {
        notice().textContent = kind ? notice().dataset[kind] : "";
        notice().hidden = !kind;
    }

    function stop(part, kind) {
        const still = part.cloneNode(true);
        for (const name of ["hx-get", "hx-trigger"]) still.removeAttribute(name);
        part.replaceWith(still);
        window.htmx.process(still);
        show(kind);
    }

    // A button that is opening a dialog must still be there when the dialog comes.
    let opening = 0;
    const isButton = (element) => !isLive(element) && element.closest("[data-live]") !== null;
    document.addEventListener("htmx:beforeRequest", (event) => {
        if (isButton(event.detail.elt)) opening += 1;
    });
    document.addEventListener("htmx:afterRequest", (event) => {
        if (isButton(event.detail.elt)) opening -= 1;
    });

    document.addEventListener("htmx:beforeSwap", (event) => {
        const part = event.detail.target;
        if (!isLive(part)) return;
        if (opening) {
            event.detail.shouldSwap = false;
            return;
        }
        const { xhr } = event.detail;
        const asked = new URL(event.detail.pathInfo.requestPath, location.href).pathname;
        const answered = new URL(xhr.responseURL || asked, location.href).pathname;
        if (xhr.status === 200 && answered === asked && xhr.responseText.includes(`id="${part.id}"`)) {
            show(null);
            return;
        }
        event.detail.shouldSwap = false;
        if (xhr.status >= 500) show("silent");
        else if (xhr.status === 404) stop(part, "gone");
        else if (xhr.status === 403) stop(part, "refused");
        else stop(part, "left");
    });

    document.addEventListener("htmx:sendError", (event) => {
        if (isLive(event.detail.target)) show("silent");
    });

    // Read out what has changed, and only that.
    const status = () => document.querySelector("[data-live]")?.dataset.status ?? null;
    let before = null;
    document.addEventListener("htmx:afterSettle", () => {
        const now = status();
        if (now === null || now === before) return;
        if (before !== null) document.getElementById("live-status").textContent = now;
        before = now;
    });
    document.addEventListener("DOMContentLoaded", () => {
        before = status();
    });
})();
