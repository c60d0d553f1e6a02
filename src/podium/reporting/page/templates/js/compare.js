// All contenders in one chart: learning curves, and accuracy over cost.
const MOST_AT_FIRST = 8; // contenders whose curves are drawn at first, best first

// Few epochs have a tick each: there is no epoch 1.5.
function epochTicks(points) {
  const most = Math.max(...points.map(({ x }) => x));
  return most <= 12 ? [...Array(Math.max(0, most)).keys()].map((epoch) => epoch + 1) : undefined;
}

function startCompare() {
  const block = document.getElementById("comparison");
  if (!block) return;
  const compared = JSON.parse(block.textContent);
  block.remove();
  const legend = document.querySelector(".legend");
  const boxes = compared.contenders.map(({ label }, contender) => {
    const box = make("input", { type: "checkbox" });
    box.checked = contender < MOST_AT_FIRST;
    const swatch = make("i", { "aria-hidden": "true", class: isDashed(contender) ? "dashed" : null });
    swatch.style.setProperty("--hue", hue(contender));
    legend.append(make("label", {}, box, swatch, label));
    return box;
  });
  const isShown = (contender) => boxes[contender].checked;
  const number = { tickFormat: shortNumber };

  const drawCurves = (figure) => () => {
    const what = figure.querySelector(".what"), over = figure.querySelector(".over");
    const [yName, xName] = [what, over].map((one) => one.selectedOptions[0].textContent);
    const series = compared.runs.filter(({ contender }) => isShown(contender)).map((run) => (
      run.epoch.map((epoch, i) => ({
        x: run[over.value][i],
        y: run[what.value]?.[i] ?? NaN,
        run: run.title,
        contender: run.contender,
        kept: epoch === run.best,
        text: `${run.title}\n${xName}: ${shortNumber(run[over.value][i])}\n${yName}: ${
          shortNumber(run[what.value]?.[i] ?? NaN)}`,
      })).filter(({ y }) => Number.isFinite(y))));
    const points = series.flat();
    const line = (dashed) => Plot.line(points.filter((one) => isDashed(one.contender) === dashed), {
      x: "x", y: "y", z: "run", stroke: (one) => hue(one.contender), strokeWidth: 1.6,
      strokeDasharray: dashed ? "5 3" : null,
    });
    const dots = points.filter(({ kept }) => kept);
    return {
      series,
      options: { x: { label: xName, ticks: over.value === "epoch" ? epochTicks(points) : undefined, ...number }, y: { label: yName, grid: true, ...number } },
      marks: [line(false), line(true),
        Plot.dot(dots, { x: "x", y: "y", fill: (one) => hue(one.contender), r: 3.5 })],
    };
  };

  const drawCosts = (figure) => (width) => {
    const what = figure.querySelector(".what");
    const xName = what.selectedOptions[0].textContent;
    const known = compared.contenders.map((one, contender) => ({
      x: one[what.value], y: one.score, low: one.bounds[0], high: one.bounds[1],
      label: one.label, contender,
      text: `${one.label}\n${compared.score}: ${one.told}\n${xName}: ${shortNumber(one[what.value] ?? NaN)}`,
    })).filter(({ x, y, contender }) => x > 0 && y !== null && isShown(contender));
    const points = [...known].sort((a, b) => a.x - b.x);
    const front = points.filter(({ contender }) => compared.fronts[what.value].includes(contender));
    const low = Math.min(...points.map(({ x }) => x)), high = Math.max(...points.map(({ x }) => x));
    const room = Math.max(1.1, (high / low) ** 0.12);
    // names beside the dots, where there is room; those on the right half, to their left
    const named = (right) => Plot.text(points.filter(({ x }) => (x * x > low * high) === right), {
      x: "x", y: "y", text: "label", textAnchor: right ? "end" : "start", dx: right ? -9 : 9, dy: -8,
      fill: "var(--ink)", stroke: "var(--card)", strokeWidth: 3,
    });
    return {
      series: points.length ? [points] : [],
      options: {
        x: { type: "log", label: xName, domain: points.length ? [low / room, high * room] : [1, 10],
          ticks: 5, ...number },
        y: { label: compared.score, grid: true, nice: true, ...number },
      },
      marks: [
        Plot.line(front, { x: "x", y: "y", curve: "step-after", stroke: "var(--soft)", strokeDasharray: "4 4" }),
        Plot.ruleX(points.filter(({ low: end }) => end !== undefined), {
          x: "x", y1: "low", y2: "high", stroke: (one) => hue(one.contender), strokeWidth: 2, strokeOpacity: 0.55 }),
        Plot.dot(points, { x: "x", y: "y", fill: (one) => hue(one.contender), r: 5.5 }),
        ...(width > 620 && points.length <= 12 ? [named(false), named(true)] : []),
      ],
    };
  };

  const charts = { curves: drawCurves, costs: drawCosts };
  const redraws = all(".chart").map((figure) => startChart(figure, charts[figure.dataset.chart](figure)));
  legend.hidden = false;
  legend.addEventListener("input", () => redraws.forEach((redraw) => redraw()));
}
