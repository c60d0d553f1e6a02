// Tabs: one run at a time; without this script, and in print, all are shown.
// `prepare` is called with a panel before it is first shown.
function startTabs(prepare) {
  const list = document.querySelector(".tabs");
  const tabs = all(".tabs a");
  const panels = tabs.map((tab) => document.getElementById(tab.getAttribute("href").slice(1)));
  const prepared = new Set();
  const select = (chosen) => {
    if (!prepared.has(chosen)) {
      prepared.add(chosen);
      prepare(panels[chosen]);
    }
    tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", String(i === chosen));
      tab.tabIndex = i === chosen ? 0 : -1;
      panels[i].classList.toggle("shown", i === chosen);
    });
  };
  const fromAddress = () => {
    let id = location.hash.slice(1);
    try { id = decodeURIComponent(id); } catch { /* not one of our ids */ }
    const chosen = panels.findIndex((panel) => panel.id === id);
    if (chosen < 0) return;
    select(chosen);
    panels[chosen].scrollIntoView();
  };
  list.setAttribute("role", "tablist");
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
  addEventListener("hashchange", (event) => {
    // back from a dialog: keep the scroll position
    if (!isRoute(new URL(event.oldURL).hash)) fromAddress();
  });
  fromAddress();
}
