"use strict";

// A run's page polls for a fragment of itself. Anything else that comes back stops it, or is waited out.
(() => {
    const notice = () => document.getElementById("run-live-notice");

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
    const isButton = (element) => element.id !== "run-live" && element.closest("#run-live") !== null;
    document.addEventListener("htmx:beforeRequest", (event) => {
        if (isButton(event.detail.elt)) opening += 1;
    });
    document.addEventListener("htmx:afterRequest", (event) => {
        if (isButton(event.detail.elt)) opening -= 1;
    });

    document.addEventListener("htmx:beforeSwap", (event) => {
        const part = event.detail.target;
        if (part.id !== "run-live") return;
        if (opening) {
            event.detail.shouldSwap = false;
            return;
        }
        const { xhr } = event.detail;
        const asked = new URL(event.detail.pathInfo.requestPath, location.href).pathname;
        const answered = new URL(xhr.responseURL || asked, location.href).pathname;
        if (xhr.status === 200 && answered === asked && xhr.responseText.includes('id="run-live"')) {
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
        if (event.detail.target.id === "run-live") show("silent");
    });

    // Read out what has changed, and only that.
    let before = null;
    document.addEventListener("htmx:afterSettle", () => {
        const part = document.getElementById("run-live");
        if (!part || part.dataset.status === before) return;
        if (before !== null) document.getElementById("run-live-status").textContent = part.dataset.status;
        before = part.dataset.status;
    });
    document.addEventListener("DOMContentLoaded", () => {
        before = document.getElementById("run-live")?.dataset.status ?? null;
    });
})();
