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
  // the address follows: a link to the tab of an old address would do nothing
  const choose = (chosen) => {
    select(chosen);
    history.replaceState(null, "", tabs[chosen].getAttribute("href"));
  };
  // Show what the address names, in its tab and unfolded. The sections above must be complete.
  const fromAddress = (behavior) => {
    let id = location.hash.slice(1);
    try { id = decodeURIComponent(id); } catch { /* not one of our ids */ }
    const target = document.getElementById(id);
    if (!target) return;
    const chosen = panels.indexOf(target.closest(".run"));
    if (chosen >= 0) select(chosen);
    for (let one = target; one; one = one.parentElement) if (one.matches("details")) one.open = true;
    target.scrollIntoView({ behavior });
  };
  list.setAttribute("role", "tablist");
  tabs.forEach((tab, i) => {
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", panels[i].id);
    tab.parentElement.setAttribute("role", "presentation");
    panels[i].setAttribute("role", "tabpanel");
    tab.addEventListener("click", (event) => {
      event.preventDefault();
      choose(i);
    });
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const next = event.key === "Home" ? 0 : event.key === "End" ? tabs.length - 1
        : step ? (i + step + tabs.length) % tabs.length : -1;
      if (next < 0) return;
      event.preventDefault();
      choose(next);
      tabs[next].focus();
    });
  });
  select(0);
  addEventListener("hashchange", (event) => {
    // back from a dialog: keep the scroll position
    if (!isRoute(new URL(event.oldURL).hash)) fromAddress("auto");
  });
  fromAddress("instant");
}
