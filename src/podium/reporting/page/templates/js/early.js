// Before the first paint: mark that scripts run, and apply the reader's theme.
const root = document.documentElement;
root.classList.add("js");
try {
  const kept = localStorage.getItem("podium-theme");
  if (kept === "light" || kept === "dark") root.dataset.theme = kept;
} catch { /* no storage for local files in this browser */ }
