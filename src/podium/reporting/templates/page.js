"use strict";
(() => {
  document.documentElement.classList.add("js");

  // Tabs: one run at a time; without this script, and in print, all of them show.
  const tabs = [...document.querySelectorAll(".tabs a")];
  const panels = tabs.map((tab) => document.getElementById(tab.getAttribute("href").slice(1)));
  const select = (chosen) => {
    tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", String(i === chosen));
      tab.tabIndex = i === chosen ? 0 : -1;
      panels[i].hidden = i !== chosen;
    });
  };
  const fromAddress = () => {
    let id = location.hash.slice(1);
    try { id = decodeURIComponent(id); } catch { /* not ours */ }
    const chosen = panels.findIndex((panel) => panel.id === id);
    if (chosen >= 0) {
      select(chosen);
      panels[chosen].scrollIntoView();
    }
  };
  if (tabs.length) {
    document.querySelector(".tabs").setAttribute("role", "tablist");
    tabs.forEach((tab, i) => {
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-controls", panels[i].id);
      tab.parentElement.setAttribute("role", "presentation");
      panels[i].setAttribute("role", "tabpanel");
      tab.addEventListener("click", (event) => {
        event.preventDefault();
        select(i);
        history.replaceState(null, "", tab.getAttribute("href"));
      });
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        const next = event.key === "Home" ? 0 : event.key === "End" ? tabs.length - 1
          : step ? (i + step + tabs.length) % tabs.length : -1;
        if (next < 0) return;
        event.preventDefault();
        select(next);
        tabs[next].focus();
      });
    });
    select(0);
    addEventListener("hashchange", fromAddress);
    fromAddress();
  }

  // Tables: a click on a heading sorts; a second one turns the order round.
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    return "sort" in cell.dataset ? Number(cell.dataset.sort) : cell.textContent.trim();
  };
  document.querySelectorAll("table.sortable").forEach((table) => {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      const button = heading.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const now = heading.getAttribute("aria-sort");
        const first = heading.dataset.first || "ascending";
        const other = first === "ascending" ? "descending" : "ascending";
        const order = now === first ? other : first;
        headings.forEach((one) => one.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const body = table.tBodies[0];
        const rows = [...body.rows];
        rows.sort((a, b) => {
          const x = valueOf(a, column), y = valueOf(b, column);
          const difference = typeof x === "number" ? x - y
            : x.localeCompare(y, document.documentElement.lang, { numeric: true });
          return sign * difference;
        });
        body.append(...rows);
      });
    });
  });
})();
