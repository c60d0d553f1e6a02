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

function recallCell(runs, label) {
  const sizes = runs.map((run) => (data.runs[run].support || data.support)[label]);
  if (!sizes.every(Boolean)) return make("td", { class: "num" }, "–");
  const rights = runs.map((run) => data.runs[run].correct[label]);
  const share = mean(rights.map((right, i) => right / sizes[i]));
  const bar = make("span", { class: "range", "aria-hidden": "true" });
  const cell = make("td", { class: "num", "data-head": say("x_recall") });
  if (runs.length > 1) { // the seeds share the images: their sum would be surer than it is
    cell.append(`${percent(share)} `, make("small", {}, say("x_mean")));
  } else {
    const [low, high] = wilson(rights[0], sizes[0]);
    const bounds = `${decimal(100 * low, 0)}–${percent(high, 0)}`;
    cell.append(`${rights[0]} / ${sizes[0]} `, make("small", {}, `(${bounds})`));
    bar.append(make("i"));
    bar.firstChild.style.cssText = `left:${100 * low}%;right:${100 - 100 * high}%`;
  }
  bar.append(make("b"));
  bar.lastChild.style.left = `${100 * share}%`;
  cell.append(bar);
  return cell;
}

// A table with a row per contender, below which its seeds unfold. `cells` gives those of `runs`.
function contenderTable(heads, cells, isKnown = () => true) {
  const row = (title, runs, attributes) => make("tr", attributes,
    make("th", { scope: "row" }, ...title), ...cells(runs));
  const bodies = [...contenders].map(([name, every]) => {
    const runs = every.filter(isKnown);
    if (!runs.length) return null;
    const seeds = make("span", { class: "seeds" }, say("x_seeds", { count: runs.length }));
    const several = runs.length > 1;
    const body = make("tbody", {}, row(several ? [name, seeds] : [name], runs),
      ...(several ? runs : []).map((run) => row([data.runs[run].title], [run], { class: "seed" })));
    if (several) foldSeeds(seeds);
    return body;
  });
  const columns = heads.map(([key, kind]) => (
    make("th", { scope: "col", class: kind || null }, say(key))));
  return make("div", { class: "box", tabindex: "0", role: "region", "aria-label": say("x_runs_title") },
    make("table", { class: "told" }, make("thead", {}, make("tr", {}, ...columns)), ...bodies));
}

function classView(label) {
  // a confusion is one run's; summed over seeds, the other class is shown
  const link = (runs, cell) => (runs.length > 1 ? classHash : cell);
  const table = contenderTable(
    [["x_run"], ["x_recall", "num"], ["x_taken_for"], ["x_taken_as"]],
    (runs) => [recallCell(runs, label),
      make("td", { "data-head": say("x_taken_for") },
        cellList(takenFor(runs, label), link(runs, (other) => cellHash(runs[0], label, other)))),
      make("td", { "data-head": say("x_taken_as") },
        cellList(takenAs(runs, label), link(runs, (other) => cellHash(runs[0], other, label))))]);
  const images = imagesOf[label];
  return {
    title: data.classes[label],
    content: [
      partNotice(),
      table,
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

// A run's likeliest classes, or how many seeds say what; and the true class's probability.
function answerCells(runs, image) {
  const label = data.labels[image];
  const { top, share } = data.runs[runs[0]];
  const guesses = runs.length > 1
    ? answers(runs, image).map(([found, count]) => (
      [found, count / runs.length, say("x_of_seeds", { count, total: runs.length }), true]))
    : top.map((column, place) => (
      [column[image], share[place][image] / 1000, percent(share[place][image] / 1000), !place]));
  const items = guesses.map(([found, part, note, isAnswer]) => {
    const bar = make("i", { class: "bar", "aria-hidden": "true" });
    bar.style.width = `${100 * part}%`;
    const right = found === label;
    const mark = !isAnswer ? "" : right ? "✓ " : "✗ ";
    return make("li", { class: right ? "ok" : isAnswer ? "no" : null },
      bar, make("span", {}, `${mark}${data.classes[found]}`), make("small", {}, note));
  });
  const own = percent(mean(runs.map((run) => data.runs[run].own[image])) / 1000);
  return [make("td", {}, make("ol", { class: "guesses" }, ...items)),
    make("td", { class: "num", "data-head": say("x_own") }, own,
      ...(runs.length > 1 ? [" ", make("small", {}, say("x_mean"))] : []))];
}

function mapFigure(number, run, name) {
  const words = say("x_map_of", { name });
  return make("figure", {}, picture(number, `${words}, ${data.runs[run].title}`, ""),
    make("figcaption", {}, make("b", {}, data.runs[run].title), words));
}

// Every contender's maps of an image, and which contenders have none.
function mapsView(image) {
  if (!hasMaps) return [];
  const figures = everyRun.filter((run) => data.runs[run].maps[image]).flatMap((run) => {
    const [first, second] = data.runs[run].maps[image];
    const top = data.runs[run].top[0][image];
    return [mapFigure(first, run, data.classes[top]),
      second < 0 ? null : mapFigure(second, run, data.classes[data.labels[image]])];
  }).filter(Boolean);
  const without = [...contenders].filter(([, runs]) => !runs.some((run) => data.runs[run].maps[image]))
    .map(([name]) => name);
  return [
    make("h3", {}, say("x_maps_title")),
    figures.length ? make("p", { class: "hint" }, say("x_maps_note")) : null,
    figures.length ? make("div", { class: "maps" }, ...figures) : null,
    without.length ? make("p", { class: "hint without" }, say(figures.length ? "x_maps_some" : "x_maps_none",
      { names: without.join(", ") }), ` ${say("x_maps_which")}`) : null,
  ];
}

function pictureView(image) {
  const label = data.labels[image], path = data.paths[image];
  if (!lately.images.includes(image)) lately = { images: imagesOf[label] };
  const right = everyRun.filter((run) => isRight(run, image)).length;
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
            `${right} / ${shownTo(image)}`)))),
      contenderTable([["x_run"], ["x_guesses"], ["x_own", "num"]],
        (runs) => answerCells(runs, image), (run) => wasShown(run, image)),
      make("p", { class: "hint" }, say("x_probability_note")),
      ...mapsView(image),
    ],
    ...neighbours(lately.images, lately.images.indexOf(image), imageHash),
  };
}
