// The images that decided a pair: those that only one of the two gets right. Striking one out
// changes p in place, where p is McNemar's; see podium.reporting.page.decided_section.
const AT_ONCE = 12; // images of a list at first, and by each further click

// McNemar's test with mid-p, as podium.statistics.paired.mcnemar.
function midP(first, second) {
  if (first === second) return 1;
  const all = first + second;
  let log = -all * Math.LN2, sum = 0, last = 0;
  for (let k = 0; k <= Math.min(first, second); k += 1) {
    if (k) log += Math.log((all - k + 1) / k);
    last = Math.exp(log);
    sum += last;
  }
  return Math.max(1e-12, 2 * sum - last);
}

function pWords(p) {
  return p < 0.001 ? `p < ${decimal(0.001, 3)}` : `p = ${decimal(p, p < 0.1 ? 3 : 2)}`;
}

// Image -> by how much larger a share of the first contender's runs is right than of the second's.
function ahead([first, second], image) {
  const share = (runs) => mean(runs.map((run) => Number(isRight(run, image))));
  return share(first) - share(second);
}

// The probability that those who are wrong about an image give to their answer, at most.
function certainty(runs, image) {
  const wrong = runs.flat().filter((run) => !isRight(run, image));
  return Math.max(...wrong.map((run) => data.runs[run].share[0][image]));
}

function startDecided(section) {
  const block = document.getElementById("deciding");
  const { pairs, level } = JSON.parse(block.textContent);
  block.remove();
  const select = section.querySelector("select");
  const told = section.querySelector("output");
  const reset = section.querySelector("button");
  const stored = section.querySelector(".stored");
  const lists = section.querySelector(".sides");
  const struck = new Set(); // a wrong label is wrong for every pair
  let pair = pairs[0], sides = [[], []];

  const tell = () => {
    reset.hidden = !struck.size;
    if (!pair.counted) {
      told.textContent = "";
      return;
    }
    const [a, b] = pair.only.map((count, side) => (
      count - sides[side].filter((image) => struck.has(image)).length));
    const p = midP(a, b);
    const difference = 100 * (a - b) / (pair.n - struck.size);
    const sign = a > b ? "+" : a < b ? "−" : "";
    const verdict = p < level ? say("x_decided_better", { name: pair.names[a > b ? 0 : 1] })
      : say(p < 0.05 ? "x_decided_others" : "x_decided_open");
    told.replaceChildren(make("b", {}, verdict), ` ${say("x_decided_now", {
      difference: `${sign}${decimal(Math.abs(difference), 1)}`, p: pWords(p),
      only: `${a} / ${b}`, struck: struck.size })}`);
  };

  const side = (name, runs, image) => {
    const mapped = runs.find((run) => data.runs[run].maps[image]);
    return make("figure", {},
      mapped === undefined ? null : picture(data.runs[mapped].maps[image][0],
        say("x_map_of", { name: data.classes[data.runs[mapped].top[0][image]] }), ""),
      make("figcaption", {}, make("span", { class: "who" }, name), ...verdicts(runs, image)));
  };

  const item = (image) => {
    const made = make("li", { class: "deciding" }, make("figure", {}, thumbnail(image),
      make("figcaption", {}, classLink(data.labels[image]))),
    ...pair.runs.map((runs, place) => side(pair.names[place], runs, image)));
    if (!pair.counted) return made;
    const button = make("button", { type: "button", "aria-pressed": String(struck.has(image)) },
      say("x_decided_strike"));
    made.classList.toggle("struck", struck.has(image));
    button.addEventListener("click", () => {
      if (!struck.delete(image)) struck.add(image);
      button.setAttribute("aria-pressed", String(struck.has(image)));
      made.classList.toggle("struck", struck.has(image));
      tell();
    });
    made.append(button);
    return made;
  };

  const list = (images, name, count) => {
    const shown = make("ul", {});
    const more = make("button", { type: "button", class: "more" });
    const grow = () => {
      const from = shown.childElementCount;
      shown.append(...images.slice(from, from + AT_ONCE).map(item));
      more.textContent = say("x_more", { count: images.length - shown.childElementCount });
      more.hidden = shown.childElementCount >= images.length;
      return shown.children[from];
    };
    more.addEventListener("click", () => grow()?.querySelector("a").focus());
    grow();
    return make("div", {}, make("h4", {}, say(pair.runs.flat().length > 2 ? "x_decided_more" : "x_decided_only",
      { name, count })), shown, more);
  };

  const show = () => {
    pair = pairs[Number(select.value)];
    const known = everyImage.filter((image) => pair.runs.flat().every((run) => wasShown(run, image)));
    sides = [1, -1].map((sign) => known.map((image) => [image, sign * ahead(pair.runs, image)])
      .filter(([, by]) => by > 1e-9)
      .sort(([a, x], [b, y]) => y - x || certainty(pair.runs, b) - certainty(pair.runs, a) || a - b)
      .map(([image]) => image));
    const every = sides.flat();
    const hasMap = (image) => pair.runs.every((runs) => runs.some((run) => data.runs[run].maps[image]));
    stored.textContent = say("x_decided_stored", { total: every.length,
      pictures: every.filter((image) => data.pictures[image] >= 0).length,
      maps: every.filter(hasMap).length });
    lists.replaceChildren(...sides.map((images, place) => (
      list(images, pair.names[place], images.length))));
    const part = partNotice();
    if (part) lists.prepend(part);
    tell();
  };

  section.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  select.addEventListener("input", show);
  reset.addEventListener("click", () => {
    struck.clear();
    show();
    select.focus();
  });
  section.hidden = false;
  show();
}
