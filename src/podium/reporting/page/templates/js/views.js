// The dialog's views of a class, a confusion and an image. Each view has its `title`,
// its `content`, and the addresses `before` and `after` it, if any.
let lately = { images: [], name: "" }; // the list from which an image was opened

function neighbours(list, at, hash) {
  return { before: at > 0 ? hash(list[at - 1]) : null,
    after: at >= 0 && at < list.length - 1 ? hash(list[at + 1]) : null };
}

function cellList(pairs, hash) {
  if (!pairs.length) return make("span", { class: "soft" }, "–");
  return make("span", {}, ...pairs.flatMap(([number, count], i) => [
    i ? ", " : "",
    make("a", { href: hash(number) }, data.classes[number]), `\u00a0${count}`]));
}

function recallCell(run, label) {
  const { correct, support } = data.runs[run];
  const n = (support || data.support)[label];
  if (!n) return make("td", { class: "num" }, "–");
  const [low, high] = wilson(correct[label], n);
  const bar = make("span", { class: "range", "aria-hidden": "true" }, make("i"), make("b"));
  bar.firstChild.style.cssText = `left:${100 * low}%;right:${100 - 100 * high}%`;
  bar.lastChild.style.left = `${(100 * correct[label]) / n}%`;
  const bounds = `${decimal(100 * low, 0)}–${percent(high, 0)}`;
  return make("td", { class: "num", "data-head": say("x_recall") }, `${correct[label]} / ${n} `,
    make("small", {}, `(${bounds})`), bar);
}

function classView(label) {
  const rows = everyRun.map((run) => make("tr", {},
    make("th", { scope: "row" }, data.runs[run].title), recallCell(run, label),
    make("td", { "data-head": say("x_taken_for") }, cellList(takenFor(run, label), (other) => cellHash(run, label, other))),
    make("td", { "data-head": say("x_taken_as") }, cellList(takenAs(run, label), (other) => cellHash(run, other, label)))));
  const heads = ["x_run", "x_recall", "x_taken_for", "x_taken_as"].map((key, i) => (
    make("th", { scope: "col", class: i === 1 ? "num" : null }, say(key))));
  const images = imagesOf[label];
  return {
    title: data.classes[label],
    content: [
      partNotice(),
      make("div", { class: "box", tabindex: "0", role: "region", "aria-label": say("x_runs_title") },
        make("table", { class: "told" }, make("thead", {}, make("tr", {}, ...heads)),
          make("tbody", {}, ...rows))),
      make("h3", {}, say("x_images_title")),
      make("p", { class: "hint" }, say("x_probability_note")),
      filteredCards(images, (found) => { lately = { images: found }; }),
    ],
    ...neighbours(everyClass, label, classHash),
  };
}

function cellView(run, label, predicted) {
  const { title, support } = data.runs[run];
  const images = imagesOfCell(run, label, predicted);
  const cells = cellsOf(run);
  const at = cells.findIndex(([one, other]) => one === label && other === predicted);
  lately = { images };
  const words = { true: data.classes[label], predicted: data.classes[predicted] };
  return {
    title: label === predicted ? say("x_cell_right", words) : say("x_cell_title", words),
    content: [
      make("p", { class: "sub" }, make("b", {}, title), ` · ${say("x_cell_count", {
        count: images.length, total: (support || data.support)[label] })}`),
      make("p", { class: "sub" }, classLink(label), label === predicted ? null : " → ",
        label === predicted ? null : classLink(predicted)),
      partNotice(),
      make("p", { class: "hint" }, say("x_probability_note")),
      cardList(images),
    ],
    ...neighbours(cells, at, ([one, other]) => cellHash(run, one, other)),
  };
}

// Every contender's likeliest classes, the true class's probability, and the maps.
function answerRow(run, image) {
  const { top, share, own, title } = data.runs[run];
  const label = data.labels[image];
  const guesses = top.map((column, place) => {
    const found = column[image];
    const part = share[place][image] / 1000;
    const bar = make("i", { class: "bar", "aria-hidden": "true" });
    bar.style.width = `${100 * part}%`;
    const mark = place ? "" : found === label ? "✓ " : "✗ ";
    return make("li", { class: found === label ? "ok" : place ? null : "no" },
      bar, make("span", {}, `${mark}${data.classes[found]}`), make("small", {}, percent(part)));
  });
  return make("tr", {}, make("th", { scope: "row" }, title),
    make("td", {}, make("ol", { class: "guesses" }, ...guesses)),
    make("td", { class: "num", "data-head": say("x_own") }, percent(own[image] / 1000)));
}

function mapFigure(number, run, name) {
  const words = say("x_map_of", { name });
  return make("figure", {}, picture(number, `${words}, ${data.runs[run].title}`, ""),
    make("figcaption", {}, make("b", {}, data.runs[run].title), words));
}

function pictureView(image) {
  const label = data.labels[image], path = data.paths[image];
  if (!lately.images.includes(image)) lately = { images: imagesOf[label] };
  const maps = everyRun.filter((run) => data.runs[run].maps[image]).flatMap((run) => {
    const [first, second] = data.runs[run].maps[image];
    const top = data.runs[run].top[0][image];
    return [mapFigure(first, run, data.classes[top]),
      second < 0 ? null : mapFigure(second, run, data.classes[label])];
  });
  const heads = [["x_run"], ["x_guesses"], ["x_own", "num"]].map(([key, kind]) => (
    make("th", { scope: "col", class: kind || null }, say(key))));
  const rows = everyRun.filter((run) => wasShown(run, image)).map((run) => answerRow(run, image));
  return {
    title: say("x_picture_of", { name: data.classes[label] }),
    content: [
      make("div", { class: "large" },
        picture(data.pictures[image], say("x_picture_of", { name: data.classes[label] }), path),
        make("dl", { class: "facts" },
          make("div", {}, make("dt", {}, say("x_true_class")), make("dd", {}, classLink(label))),
          make("div", {}, make("dt", {}, say("x_path")),
            make("dd", {}, make("code", {}, path))),
          make("div", {}, make("dt", {}, say("x_right_runs")), make("dd", {},
            `${rows.length - wrongRuns(image).length} / ${rows.length}`)))),
      make("div", { class: "box", tabindex: "0", role: "region", "aria-label": say("x_runs_title") },
        make("table", { class: "told" }, make("thead", {}, make("tr", {}, ...heads)),
          make("tbody", {}, ...rows))),
      make("p", { class: "hint" }, say("x_probability_note")),
      maps.length ? make("h3", {}, say("x_maps_title")) : null,
      maps.length ? make("p", { class: "hint" }, say("x_maps_note")) : null,
      maps.length ? make("div", { class: "maps" }, ...maps.filter(Boolean)) : null,
    ],
    ...neighbours(lately.images, lately.images.indexOf(image), imageHash),
  };
}
