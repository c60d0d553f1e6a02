// A search box that completes class names, following the WAI-ARIA combobox pattern.
const MOST_FOUND = 12;

function startSearch(open) {
  const box = document.querySelector(".search input");
  const list = document.querySelector(".search ul");
  const plain = (words) => words.normalize("NFKD").replace(/\p{M}/gu, "").toLocaleLowerCase();
  const names = data.classes.map(plain);
  let found = [], chosen = -1;
  const close = () => {
    list.hidden = true;
    chosen = -1;
    box.setAttribute("aria-expanded", "false");
    box.removeAttribute("aria-activedescendant");
  };
  const choose = (at) => {
    chosen = at;
    [...list.children].forEach((item, i) => item.setAttribute("aria-selected", String(i === at)));
    if (at < 0) {
      box.removeAttribute("aria-activedescendant");
      return;
    }
    box.setAttribute("aria-activedescendant", list.children[at].id);
    list.children[at].scrollIntoView({ block: "nearest" });
  };
  const show = () => {
    const wanted = plain(box.value.trim());
    const score = (name) => (name.startsWith(wanted) ? 0 : name.includes(` ${wanted}`) ? 1 : 2);
    found = everyClass.filter((number) => names[number].includes(wanted));
    if (wanted) found.sort((a, b) => score(names[a]) - score(names[b]) || a - b);
    found = found.slice(0, MOST_FOUND);
    list.replaceChildren(...found.map((number, at) => make("li", {
      role: "option", id: `found-${at}`, "aria-selected": "false" }, data.classes[number])));
    list.hidden = !found.length;
    box.setAttribute("aria-expanded", String(found.length > 0));
    choose(found.length && wanted ? 0 : -1);
  };
  const take = (at) => {
    if (at < 0) return;
    const number = found[at];
    box.value = data.classes[number];
    close();
    open(classHash(number), box);
  };
  box.addEventListener("input", show);
  box.addEventListener("focus", () => box.select());
  box.addEventListener("blur", () => setTimeout(close, 150));
  box.addEventListener("click", () => list.hidden && show());
  box.addEventListener("keydown", (event) => {
    const last = found.length - 1;
    if (event.key === "ArrowDown" && list.hidden) show();
    else if (event.key === "ArrowDown") choose(chosen >= last ? 0 : chosen + 1);
    else if (event.key === "ArrowUp") choose(chosen <= 0 ? last : chosen - 1);
    else if (event.key === "Enter" && !list.hidden) take(chosen);
    else if (event.key === "Escape" && !list.hidden) close();
    else return;
    event.preventDefault();
  });
  list.addEventListener("pointerdown", (event) => event.preventDefault()); // keep the focus in the box
  list.addEventListener("click", (event) => take([...list.children].indexOf(event.target)));
}
