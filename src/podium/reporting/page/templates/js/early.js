// Before anything is painted: the script is there, and the reader's own choice of colours.
const root = document.documentElement;
root.classList.add("js");
try {
  const kept = localStorage.getItem("podium-theme");
  if (kept === "light" || kept === "dark") root.dataset.theme = kept;
} catch { /* a browser that keeps nothing for files */ }
