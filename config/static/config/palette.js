/* The search of every page and the switch between tenants: Ctrl+K, or the buttons with data-palette. */
(() => {
  const WAIT_MS = 120;

  const start = () => {
    const dialog = document.getElementById("seo-gen-palette");
    if (!dialog) {
      return;
    }
    const input = dialog.querySelector("input");
    const list = dialog.querySelector("[role=listbox]");
    const placeholder = input.placeholder;
    let scope = "";
    let timer = 0;
    let asked = 0;
    let chosen = -1;

    const options = () => [...list.querySelectorAll("[role=option]")];

    const choose = (index) => {
      const found = options();
      chosen = found.length ? (index + found.length) % found.length : -1;
      found.forEach((option, at) => {
        option.id = `seo-gen-palette-${at}`;
        option.setAttribute("aria-selected", String(at === chosen));
      });
      if (chosen < 0) {
        input.removeAttribute("aria-activedescendant");
        return;
      }
      input.setAttribute("aria-activedescendant", found[chosen].id);
      found[chosen].scrollIntoView({ block: "nearest" });
    };

    const ask = async () => {
      const number = ++asked;
      const query = new URLSearchParams({ q: input.value, scope, from: window.location.pathname });
      let text = null;
      try {
        const response = await fetch(`${dialog.dataset.url}?${query}`, { credentials: "same-origin" });
        text = response.ok && !response.redirected ? await response.text() : null;
      } catch {
        text = null;
      }
      if (number !== asked) {
        return;
      }
      if (text === null) {
        list.textContent = dialog.dataset.failed;
      } else {
        list.innerHTML = text;
      }
      /* A list without options says something; it has nothing to choose. */
      list.setAttribute("role", options().length ? "listbox" : "status");
      choose(0);
    };

    const open = (wanted) => {
      scope = wanted;
      input.value = "";
      input.placeholder = scope === "tenants" ? input.dataset.tenants : placeholder;
      if (!dialog.open) {
        dialog.showModal();
      }
      input.focus();
      ask();
    };

    input.addEventListener("input", () => {
      window.clearTimeout(timer);
      timer = window.setTimeout(ask, WAIT_MS);
    });

    dialog.addEventListener("keydown", (event) => {
      if (event.isComposing) {
        return;
      }
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        event.preventDefault();
        choose(chosen + (event.key === "ArrowDown" ? 1 : -1));
      } else if (event.key === "Enter" && chosen >= 0) {
        event.preventDefault();
        const link = options()[chosen];
        if (event.ctrlKey || event.metaKey) {
          window.open(link.href, "_blank");
        } else {
          window.location.assign(link.href);
        }
      }
    });

    // A click beside the content is one on the dialog itself.
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) {
        dialog.close();
      }
    });

    window.addEventListener("keydown", (event) => {
      if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        open("");
      }
    });

    document.addEventListener("click", (event) => {
      const opener = event.target.closest("[data-palette]");
      if (opener) {
        open(opener.dataset.palette);
      }
    });
  };

  /* A menu group stays as a person left it. */
  const keepGroups = () => {
    for (const group of document.querySelectorAll("details[data-menu-group]")) {
      const key = `seo-gen-menu-${group.dataset.menuGroup}`;
      const kept = localStorage.getItem(key);
      if (kept !== null && !group.querySelector("a.active")) {
        group.open = kept === "1";
      }
      /* Not "toggle": a group that the page itself opens tells so, too. A click comes before the change. */
      group.querySelector("summary").addEventListener("click", () => localStorage.setItem(key, group.open ? "0" : "1"));
    }
  };

  /* Django's filter of a list says what it is for on a <span>, which may have a label only with a role. */
  const nameTooltips = () => {
    for (const tooltip of document.querySelectorAll("span.help-tooltip[aria-label]")) {
      tooltip.setAttribute("role", "img");
    }
  };

  // Django builds these filters when the page has loaded.
  window.addEventListener("load", () => window.setTimeout(nameTooltips));

  document.addEventListener("DOMContentLoaded", () => {
    start();
    keepGroups();
  });
})();
