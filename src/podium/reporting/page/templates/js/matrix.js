// The confusion matrix: clicking a cell shows its images, clicking a heading its class.
// It is a single Tab stop; arrow keys move between cells.
function prepareMatrix(svg, open) {
  const run = runNumbers.get(svg.dataset.run);
  const groups = all("rect.cell", svg).map((rect) => rect.parentElement);
  if (!groups.length) return;
  const places = groups.map((group) => group.querySelector("rect").dataset.cell.split(",").map(Number));
  let current = 0;
  const show = (at) => {
    const [label, predicted] = places[at];
    open(cellHash(run, label, predicted), groups[at]);
  };
  const go = (at) => {
    if (at < 0 || at >= groups.length) return;
    groups[current].setAttribute("tabindex", "-1");
    current = at;
    groups[at].setAttribute("tabindex", "0");
  };
  // the nearest cell above or below
  const beside = (sign) => {
    const [row, column] = places[current];
    const far = ([r, c]) => 1000 * Math.abs(c - column) + Math.abs(r - row);
    return places.map((place, at) => [far(place), at])
      .filter(([, at]) => sign * (places[at][0] - row) > 0)
      .sort(([a], [b]) => a - b)[0]?.[1] ?? -1;
  };
  svg.setAttribute("role", "group");
  groups.forEach((group, at) => {
    group.setAttribute("role", "button");
    group.setAttribute("aria-label", group.querySelector("title").textContent);
    group.setAttribute("tabindex", at ? "-1" : "0");
  });
  svg.addEventListener("click", (event) => {
    const at = groups.indexOf(event.target.closest("g[role=button]"));
    const heading = event.target.closest("[data-class]");
    if (at >= 0) {
      go(at);
      show(at);
    } else if (heading) open(classHash(Number(heading.dataset.class)), groups[current]);
  });
  svg.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") show(current);
    else if (event.key === "ArrowLeft") go(current - 1);
    else if (event.key === "ArrowRight") go(current + 1);
    else if (event.key === "ArrowUp") go(beside(-1));
    else if (event.key === "ArrowDown") go(beside(1));
    else if (event.key === "Home") go(0);
    else if (event.key === "End") go(groups.length - 1);
    else return;
    event.preventDefault();
    if (event.key !== "Enter" && event.key !== " ") groups[current].focus();
  });
}
