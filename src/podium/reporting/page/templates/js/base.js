// Small helpers. Text is inserted as text only: names are untrusted.
const SVG = "http://www.w3.org/2000/svg";

function all(selector, within = document) {
  return [...within.querySelectorAll(selector)];
}

// make("a", { class: "x", href: "#y" }, "text", child): null attributes are left out.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function option(value, text) {
  const made = make("option", {}, text);
  made.value = value;
  return made;
}

// Light or dark theme: the system's setting, unless the reader chose one.
function startTheme() {
  const button = document.querySelector(".theme");
  if (!button) return;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const show = () => button.setAttribute("aria-pressed", String(isDark()));
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("podium-theme", root.dataset.theme); } catch { /* for this visit only */ }
    show();
  });
  dark.addEventListener("change", show);
  show();
}

// Open folded sections for printing.
function startPrint() {
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = all("details:not([open])");
    folded.forEach((one) => { one.open = true; });
  });
  addEventListener("afterprint", () => folded.forEach((one) => { one.open = false; }));
}
