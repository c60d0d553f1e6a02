// Every run's prediction for every listed image, from the JSON block; see
// podium.reporting.page.explorer.
const block = document.getElementById("explorer");
const data = JSON.parse(block.textContent);
block.remove(); // it is read once, so the page need not keep it as text
const classNumbers = new Map(data.classes.map((name, number) => [name, number]));
const imageNumbers = new Map(data.paths.map((path, number) => [path, number]));
const runNumbers = new Map(data.runs.map((run, number) => [run.slug, number]));
const imagesOf = data.classes.map(() => []);
data.labels.forEach((label, image) => imagesOf[label].push(image));
data.runs.forEach((run) => {
  // for correct predictions, the true class has the first probability
  let next = 0;
  run.own = run.top[0].map((top, i) => (top === data.labels[i] ? run.share[0][i] : run.own[next++]));
});
const everyRun = data.runs.map((_, number) => number);
const everyClass = data.classes.map((_, number) => number);
const everyImage = data.paths.map((_, number) => number);
// runs by contender, in the report's order
const contenders = new Map();
data.runs.forEach((run, number) => {
  contenders.set(run.contender, [...(contenders.get(run.contender) || []), number]);
});

const hasMaps = data.runs.some((run) => Object.keys(run.maps).length);

function say(key, values = {}) {
  return data.words[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

function decimal(value, digits) {
  const text = value.toFixed(digits);
  return data.lang === "pt" ? text.replace(".", ",") : text;
}

function percent(share, digits = 1) {
  return `${decimal(100 * share, digits)}\u00a0%`;
}

const wasShown = (run, image) => data.runs[run].top[0][image] >= 0;
const isRight = (run, image) => data.runs[run].top[0][image] === data.labels[image];

function wrongRuns(image) {
  return everyRun.filter((run) => wasShown(run, image) && !isRight(run, image));
}

// 95 % Wilson interval of a share, 0..1, as in the tables.
function wilson(correct, n) {
  const z = 1.959963984540054;
  const share = correct / n, square = (z * z) / n;
  const middle = (share + square / 2) / (1 + square);
  const half = (z / (1 + square)) * Math.sqrt((share * (1 - share)) / n + square / (4 * n));
  // avoid a sliver from rounding at either end
  return [correct === 0 ? 0 : middle - half, correct === n ? 1 : middle + half];
}

// Class -> how many of the images or runs, most first: `of` gives the class; -1 is left out.
function tally(items, of) {
  const counts = new Map();
  items.forEach((item) => {
    const key = of(item);
    if (key >= 0) counts.set(key, (counts.get(key) || 0) + 1);
  });
  return [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
}

// The runs' classes of an image, most frequent first: [class, runs] each.
function answers(runs, image) {
  return tally(runs, (run) => data.runs[run].top[0][image]);
}

// Over all of `runs`, which are one contender's.
function takenFor(runs, label) {
  return tally(runs.flatMap((run) => imagesOf[label].filter((image) => !isRight(run, image))
    .map((image) => data.runs[run].top[0][image])), (found) => found);
}

function takenAs(runs, label) {
  return tally(runs.flatMap((run) => everyImage.filter((image) => (
    data.runs[run].top[0][image] === label && !isRight(run, image)))), (image) => data.labels[image]);
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

// Images of class `label` that the run predicted as `predicted`, most confident first.
function imagesOfCell(run, label, predicted) {
  const { top, share } = data.runs[run];
  return imagesOf[label].filter((image) => top[0][image] === predicted)
    .sort((a, b) => share[0][b] - share[0][a] || a - b);
}

// The run's mistakes, most frequent first: [label, predicted] each.
function cellsOf(run) {
  const size = data.classes.length;
  const { top } = data.runs[run];
  return tally(everyImage, (image) => (
    wasShown(run, image) && !isRight(run, image) ? data.labels[image] * size + top[0][image] : -1))
    .map(([key]) => [Math.floor(key / size), key % size]);
}

// Which images to show. `run` is a number, or -1 for all of them.
const FILTERS = {
  all: () => true,
  wrong: (image, run) => (run < 0 ? wrongRuns(image).length > 0
    : wasShown(run, image) && !isRight(run, image)),
  every: (image) => wrongRuns(image).length === shownTo(image),
  mapped: (image) => [...contenders.values()].every((runs) => (
    runs.some((run) => data.runs[run].maps[image]))),
  disagree: (image, run) => {
    const said = everyRun.filter((one) => wasShown(one, image))
      .map((one) => data.runs[one].top[0][image]);
    return run < 0 ? new Set(said).size > 1
      : wasShown(run, image) && said.some((one) => one !== data.runs[run].top[0][image]);
  },
};

function shownTo(image) {
  return data.runs.reduce((sum, run) => sum + (run.top[0][image] >= 0 ? 1 : 0), 0);
}

function filtered(images, kind, run) {
  const found = images.filter((image) => FILTERS[kind](image, run));
  if (run < 0 || kind !== "wrong") return found;
  const { share } = data.runs[run]; // a run's mistakes: most confident first
  return found.sort((a, b) => share[0][b] - share[0][a] || a - b);
}
