// Images with their predictions.
const STEP = 24; // images at a time

const classHash = (number) => `#class=${encodeURIComponent(data.classes[number])}`;
const imageHash = (number) => `#picture=${encodeURIComponent(data.paths[number])}`;
const cellHash = (run, label, predicted) => (
  `#cell=${encodeURIComponent(data.runs[run].slug)},${label},${predicted}`);

function classLink(number) {
  return make("a", { href: classHash(number) }, data.classes[number]);
}

// An embedded image by its number; the path of an image that is not embedded.
function picture(number, words, path) {
  return number < 0 ? make("div", { class: "pic gone" }, make("span", {}, path))
    : make("div", { class: `pic p${number}`, role: "img", "aria-label": words });
}

function thumbnail(image) {
  const words = say("x_picture_of", { name: data.classes[data.labels[image]] });
  return make("a", { class: "thumb", href: imageHash(image) },
    picture(data.pictures[image], words, data.paths[image]));
}

// Tick or cross, the class if it is wrong, and the probability, or how many seeds say so.
function verdicts(runs, image) {
  return answers(runs, image).map(([found, count]) => {
    const right = found === data.labels[image];
    return make("span", { class: right ? "said ok" : "said no" },
      make("span", { "aria-hidden": "true" }, right ? "✓" : "✗"),
      make("span", { class: "sr" }, say(right ? "x_right" : "x_wrong")),
      right ? " " : ` ${data.classes[found]} `,
      make("small", {}, runs.length > 1 ? say("x_of_seeds", { count, total: runs.length })
        : percent(data.runs[runs[0]].share[0][image] / 1000, 0)));
  });
}

function card(image) {
  const said = [...contenders].map(([name, runs]) => {
    const known = runs.filter((run) => wasShown(run, image));
    return known.length ? make("li", {}, make("span", { class: "who" }, name),
      ...verdicts(known, image)) : null;
  });
  return make("li", { class: wrongRuns(image).length ? "card no" : "card" }, thumbnail(image),
    make("div", {}, make("p", { class: "truth" }, classLink(data.labels[image])),
      make("ul", {}, ...said)));
}

// A list of cards that grows: 10,000 of them at once would stop the page.
function cardList(images) {
  const list = make("ul", { class: "cards" });
  const more = make("button", { type: "button", class: "more" });
  const grow = () => {
    const from = list.childElementCount;
    list.append(...images.slice(from, from + STEP).map(card));
    const left = images.length - list.childElementCount;
    more.textContent = say("x_more", { count: left });
    more.hidden = left <= 0;
    return list.children[from];
  };
  more.addEventListener("click", () => grow()?.querySelector("a").focus());
  grow();
  return make("div", { class: "cardlist" },
    images.length ? list : make("p", { class: "hint" }, say("x_none")), more);
}

// Cards with a filter above them. `keep` is called with those that pass.
function filteredCards(images, keep = () => {}) {
  const kinds = make("select", {}, ...Object.keys(FILTERS)
    .filter((kind) => kind !== "mapped" || hasMaps)
    .map((kind) => option(kind, say(`x_filter_${kind}`))));
  const runs = make("select", {}, option(-1, say("x_any_run")),
    ...[...contenders].flatMap(([name, of]) => {
      const options = of.map((run) => option(run, data.runs[run].title));
      return of.length > 1 ? make("optgroup", { label: name }, ...options) : options;
    }));
  const told = make("output", {});
  const place = make("div", {});
  const apply = () => {
    const found = filtered(images, kinds.value, Number(runs.value));
    told.textContent = say("x_images", { count: found.length, total: images.length });
    place.replaceChildren(cardList(found));
    keep(found);
  };
  const bar = make("form", { class: "bar" },
    make("label", {}, make("span", {}, say("x_filter")), kinds),
    make("label", {}, make("span", {}, say("x_of_run")), runs), told);
  runs.closest("label").hidden = data.runs.length < 2;
  bar.addEventListener("input", apply);
  bar.addEventListener("submit", (event) => event.preventDefault());
  apply();
  return make("div", { class: "filtered" }, bar, place);
}

// A note where the page does not list every image.
function partNotice() {
  return data.paths.length < data.total ? make("p", { class: "note" },
    say("x_part", { count: data.paths.length, total: data.total })) : null;
}
