// Draws answers. Names of classes are untrusted, so all text is inserted as text, never as markup.

export function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") made.textContent = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

export function percent(probability) {
  const value = 100 * probability;
  if (value < 0.05) return "< 0.1 %";
  if (value >= 99.95) return "> 99.9 %";
  return `${value.toFixed(1)} %`;
}

export function accuracyWords(model) {
  if (model.test_accuracy === null) return "Test accuracy not known";
  const accuracy = (100 * model.test_accuracy).toFixed(1);
  if (!model.test_interval) return `Test accuracy ${accuracy} %`;
  const [low, high] = model.test_interval.map((one) => (100 * one).toFixed(1));
  return `Test accuracy ${accuracy} % (95 %: ${low} to ${high}; n = ${model.test_images.toLocaleString("en")})`;
}

/** A contender's column, before any image. */
export function card(model) {
  const made = make("article", { class: "card", "aria-label": model.label });
  made.append(
    make("h2", { dir: "auto", text: model.label }),
    make("p", { class: "accuracy", text: accuracyWords(model) }),
    make("div", { class: "body" }),
  );
  wait(made);
  return made;
}

export function wait(column, words = "Waiting for an image.") {
  column.querySelector(".body").replaceChildren(make("p", { class: "waiting", text: words }));
  column.classList.remove("old");
}

/** Put an answer into its column. `explain(class)` is called when a class is chosen. */
export function fill(column, model, answer, picture, explain) {
  const body = column.querySelector(".body");
  const parts = [];
  const top = answer.predictions[0];
  if (picture.label !== null && model.classes.includes(picture.label)) {
    const right = top.class === picture.label;
    parts.push(make("p", { class: right ? "mark" : "mark no", text: right ? "✓ right" : "✗ wrong" }));
  }
  const list = make("ol", { class: "guesses", "aria-label": `Most likely classes, ${model.label}` });
  for (const guess of answer.predictions) list.append(line(guess, answer, model, explain));
  if (answer.none_of_these) parts.push(foreign(model));
  parts.push(list);
  if (answer.set) parts.push(candidates(answer.set, model));
  if (answer.gradcam) parts.push(map(answer, model, picture));
  else if (answer.asked) parts.push(make("p", { class: "took", text: "Heat maps are not available for exported models." }));
  const size = `${answer.image.width.toLocaleString("en")} × ${answer.image.height.toLocaleString("en")} px`;
  parts.push(make("p", { class: "took", text: `${size}, answered in ${Math.round(answer.milliseconds)} ms` }));
  body.replaceChildren(...parts);
  column.classList.remove("old");
}

function foreign(model) {
  const keep = `${+(100 * model.keep).toFixed(2)} %`;
  return make("p", { class: "mark no", text: `None of these: less similar to training images than ${keep} of the validation images.` });
}

const SHOWN = 20;  // classes of a set that are named

/** The set of classes that contains the true one with the promised probability. */
function candidates(set, model) {
  const coverage = `${+(100 * model.coverage).toFixed(2)} %`;
  const words = make("p", { class: "set" },
    make("b", { text: set.length === 1 ? "Set of 1 class" : `Set of ${set.length.toLocaleString("en")} classes` }),
    ` (${coverage}${model.coverage_by_class ? " by class" : ""}): `);
  set.slice(0, SHOWN).forEach((one, at) => {
    words.append(at ? ", " : "", make("bdi", { text: one.class }));
  });
  words.append(set.length > SHOWN ? ` and ${(set.length - SHOWN).toLocaleString("en")} more.` : ".");
  return words;
}

function line(guess, answer, model, explain) {
  const share = percent(guess.probability);
  let name;
  if (model.gradcam && answer.gradcam) {
    name = make("button", { type: "button", class: "name", dir: "auto", text: guess.class,
      title: "Show the heat map for this class",
      "aria-pressed": String(answer.explained === guess.class) });
    name.addEventListener("click", () => explain(guess.class));
  } else {
    name = make("span", { class: "name", dir: "auto", text: guess.class });
  }
  const bar = make("i");
  bar.style.width = `${Math.max(0, Math.min(100, 100 * guess.probability))}%`;
  return make("li", {},
    make("div", { class: "line" }, name, make("span", { class: "share", text: share })),
    make("div", { class: "track", "aria-hidden": "true" }, bar));
}

function map(answer, model, picture) {
  const over = make("img", { class: "over", src: answer.gradcam,
    alt: `Heat map of ${model.label} for ${answer.explained}` });
  const under = make("img", { src: picture.url, alt: "" });
  const stack = make("div", { class: "stack" }, under, over);
  const bare = make("img", { class: "bare", src: picture.url, alt: "The image without the heat map" });
  const alone = () => { under.remove(); bare.remove(); over.classList.add("alone"); };  // a format that this browser cannot show
  if (picture.unseen) alone();
  else under.addEventListener("error", alone);
  const words = make("figcaption", {}, "Heat map for ", make("b", { dir: "auto", text: answer.explained }),
    model.classes.length > 1 ? ". Choose a class above to see its heat map." : ".");
  return make("figure", { class: "map" }, make("div", { class: "beside" }, bare, stack), words);
}

/** One sentence on whether they agree, as nodes, and as text for screen readers. */
export function verdict(answers, models) {
  const votes = new Map();
  for (const answer of answers) {
    const name = answer.predictions[0].class;
    if (!votes.has(name)) votes.set(name, []);
    votes.get(name).push(models.get(answer.model).label);
  }
  const nodes = [];
  const strong = (text) => make("strong", { dir: "auto", text });
  if (answers.length === 1) {
    const top = answers[0].predictions[0];
    nodes.push(`${models.get(answers[0].model).label} predicts `, strong(top.class), `: ${percent(top.probability)}.`);
  } else if (votes.size === 1) {
    const shares = answers.map((one) => percent(one.predictions[0].probability));
    nodes.push(answers.length === 2 ? "Both predict " : `All ${answers.length} predict `,
      strong(answers[0].predictions[0].class), `: ${shares.join(", ")}.`);
  } else {
    nodes.push("They disagree: ");
    const sorted = [...votes].sort((a, b) => b[1].length - a[1].length);
    sorted.forEach(([name, labels], at) => {
      const who = labels.length > 2 ? `${labels.length} of them` : labels.join(" and ");
      nodes.push(at ? "; " : "", strong(name), ` (${who})`);
    });
    nodes.push(".");
  }
  return nodes;
}
