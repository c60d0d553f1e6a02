// Tabs: one contender at a time, and one of its seeds; without this script, and in print, all are
// shown. `prepare` is called with a panel before it is first shown.
function startTabs(prepare) {
  const section = document.getElementById("contenders");
  const list = section.querySelector(".tabs");
  const tabs = all("a", list);
  const panels = all(".run", section);
  const tabOf = panels.map((panel) => (
    tabs.findIndex((tab) => tab.id === panel.getAttribute("aria-labelledby"))));
  const lastOf = tabs.map((_, tab) => tabOf.indexOf(tab)); // the seed that was shown last
  const prepared = new Set();
  const select = (chosen) => {
    if (!prepared.has(chosen)) {
      prepared.add(chosen);
      prepare(panels[chosen]);
    }
    lastOf[tabOf[chosen]] = chosen;
    panels.forEach((panel, i) => panel.classList.toggle("shown", i === chosen));
    tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", String(i === tabOf[chosen]));
      tab.setAttribute("aria-controls", panels[lastOf[i]].id);
      tab.tabIndex = i === tabOf[chosen] ? 0 : -1;
    });
  };
  // the address follows: a link to the tab of an old address would do nothing
  const choose = (chosen) => {
    select(chosen);
    history.replaceState(null, "", `#${panels[chosen].id}`);
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
  panels.forEach((panel) => panel.setAttribute("role", "tabpanel"));
  tabs.forEach((tab, i) => {
    tab.setAttribute("role", "tab");
    tab.parentElement.setAttribute("role", "presentation");
    tab.addEventListener("click", (event) => {
      event.preventDefault();
      choose(lastOf[i]);
    });
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const next = event.key === "Home" ? 0 : event.key === "End" ? tabs.length - 1
        : step ? (i + step + tabs.length) % tabs.length : -1;
      if (next < 0) return;
      event.preventDefault();
      choose(lastOf[next]);
      tabs[next].focus();
    });
  });
  section.addEventListener("click", (event) => {
    const link = event.target.closest(".of-seeds a");
    if (!link) return;
    event.preventDefault(); // the reader stays where the panel is read
    const chosen = panels.findIndex((panel) => `#${panel.id}` === link.getAttribute("href"));
    choose(chosen);
    panels[chosen].querySelector(".of-seeds [aria-current]").focus({ preventScroll: true });
  });
  select(0);
  addEventListener("hashchange", (event) => {
    // back from a dialog: keep the scroll position
    if (!isRoute(new URL(event.oldURL).hash)) fromAddress("auto");
  });
  fromAddress("instant");
}
