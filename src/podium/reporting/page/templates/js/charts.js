// Charts that a pointer and the arrow keys can read. Observable Plot draws them; see vendor/README.md.
const HUES = 8; // --hue-0 to --hue-7; further contenders have the same hues, dashed

const hue = (contender) => `var(--hue-${contender % HUES})`;
const isDashed = (contender) => Math.floor(contender / HUES) % 2 === 1;

function shortNumber(value) {
  return value.toLocaleString(document.documentElement.lang, {
    maximumSignificantDigits: 4, notation: Math.abs(value) < 1e5 ? "standard" : "compact",
  });
}

// A chart in a <figure>. `draw(width)` returns Plot's options, and `series`, lists of points with
// their `x`, `y` and `text`: the tip shows the nearest point's text, and the arrow keys move within
// a series and to the next one.
function startChart(figure, draw) {
  const place = figure.querySelector(".drawing");
  const told = figure.querySelector("output");
  let plot = null, series = [], at = null, lastWidth = 0;

  const redraw = () => {
    lastWidth = place.clientWidth;
    if (!lastWidth) return; // not shown: drawn when it is
    const drawn = draw(lastWidth);
    series = drawn.series.filter((points) => points.length);
    at = null;
    plot = Plot.plot({
      width: lastWidth,
      height: Math.min(420, Math.max(260, lastWidth * 0.5)),
      marginLeft: 52,
      marginBottom: 44,
      style: { background: "transparent", color: "var(--ink)", fontFamily: "inherit", fontSize: "12px" },
      ...drawn.options,
      marks: [
        ...drawn.marks,
        Plot.tip(series.flat(), Plot.pointer({
          x: "x", y: "y", title: "text", lineWidth: lastWidth < 500 ? 13 : 24,
          fill: "var(--card)", stroke: "var(--soft)",
        })),
      ],
    });
    plot.setAttribute("aria-hidden", "true"); // the output says the point, the table all values
    place.replaceChildren(plot);
  };

  // Plot's own tip, at a point that the keys chose
  const point = () => {
    const { x, y, text } = series[at[0]][at[1]];
    const box = plot.getBoundingClientRect();
    plot.dispatchEvent(new PointerEvent("pointermove", {
      clientX: box.left + plot.scale("x").apply(x),
      clientY: box.top + plot.scale("y").apply(y),
      pointerType: "mouse", bubbles: true,
    }));
    told.textContent = text.replaceAll("\n", ", ");
  };

  const leave = () => {
    at = null;
    told.textContent = "";
    plot?.dispatchEvent(new PointerEvent("pointerleave", { pointerType: "mouse" }));
  };

  const nearest = (points, x) => points.reduce((best, one, i) => (
    Math.abs(one.x - x) < Math.abs(points[best].x - x) ? i : best), 0);

  place.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && at) {
      leave();
      return;
    }
    const along = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    const across = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!series.length || (!along && !across)) return;
    event.preventDefault();
    if (!at) {
      at = [0, along < 0 ? series[0].length - 1 : 0];
    } else if (along) {
      at[1] = Math.min(series[at[0]].length - 1, Math.max(0, at[1] + along));
    } else {
      const next = (at[0] + across + series.length) % series.length;
      at = [next, nearest(series[next], series[at[0]][at[1]].x)];
    }
    point();
  });
  place.addEventListener("blur", leave);
  new ResizeObserver(() => {
    if (place.clientWidth !== lastWidth) redraw();
  }).observe(place);
  figure.hidden = false;
  figure.querySelector(".bar").addEventListener("input", redraw);
  redraw();
  return redraw;
}
