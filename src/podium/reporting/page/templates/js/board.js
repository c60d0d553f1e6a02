// The leaderboard filter: search text, and a choice of model, augmentation and pre-training.
function startBoard() {
  const bar = document.querySelector(".filter");
  if (!bar) return;
  const rows = all(".leader tbody");
  const text = bar.querySelector("input[type=search]");
  const choices = all("select", bar);
  const told = bar.querySelector("output");
  const plain = (words) => words.normalize("NFKD").replace(/\p{M}/gu, "").toLocaleLowerCase();
  // search the row's own contender, not those it is tied with
  const words = new Map(rows.map((row) => [row, plain(all(".name, .what:not(.tied)", row)
    .map((one) => one.textContent).join(" "))]));
  choices.forEach((choice) => {
    const facet = choice.dataset.facet;
    const values = [...new Set(rows.map((row) => row.dataset[facet]))].filter(Boolean);
    values.sort((a, b) => a.localeCompare(b, document.documentElement.lang, { numeric: true }));
    choice.append(...values.map((value) => option(value, value)));
    choice.closest("label").hidden = values.length < 2;
  });
  const apply = () => {
    const wanted = plain(text.value).split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row) => {
      const fits = wanted.every((word) => words.get(row).includes(word))
        && choices.every(({ value, dataset }) => !value || row.dataset[dataset.facet] === value);
      row.hidden = !fits;
      shown += fits ? 1 : 0;
    });
    told.textContent = say("x_rows", { count: shown, total: rows.length });
  };
  bar.hidden = false;
  bar.addEventListener("input", apply);
  bar.addEventListener("reset", () => setTimeout(apply));
  bar.addEventListener("submit", (event) => event.preventDefault());
  apply();
}
