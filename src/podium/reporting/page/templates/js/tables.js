// Tables: clicking a heading sorts; clicking again reverses the order.
function valueOf(row, column) {
  const cell = row.cells[column];
  return "sort" in cell.dataset ? Number(cell.dataset.sort) : cell.textContent.trim();
}

function sortBy(table, headings, column) {
  const heading = headings[column];
  const first = heading.dataset.first || "ascending";
  const other = first === "ascending" ? "descending" : "ascending";
  const order = heading.getAttribute("aria-sort") === first ? other : first;
  headings.forEach((one) => one.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const words = new Intl.Collator(document.documentElement.lang, { numeric: true });
  // a contender and its seeds are a body of their own, which stays together
  const seeded = table.matches(".seeded");
  const parts = [...(seeded ? table.tBodies : table.tBodies[0].rows)]
    .map((part) => [valueOf(seeded ? part.rows[0] : part, column), part]);
  parts.sort(([a], [b]) => sign * (typeof a === "number" ? a - b : words.compare(a, b)));
  (seeded ? table : table.tBodies[0]).append(...parts.map(([, part]) => part));
}

// Fold the rows of a contender's seeds: the element becomes a button that unfolds them.
function foldSeeds(element) {
  const button = make("button", { type: "button", "aria-expanded": "false" }, ...element.childNodes);
  element.append(button);
  const body = element.closest("tbody");
  button.addEventListener("click", () => {
    button.setAttribute("aria-expanded", String(body.classList.toggle("open")));
  });
}

function startTables() {
  all("table.sortable").forEach((table) => {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      const button = heading.querySelector("button");
      if (button) button.addEventListener("click", () => sortBy(table, headings, column));
    });
  });
  all(".folds").forEach(foldSeeds);
}
