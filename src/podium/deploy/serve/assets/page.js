// The page: takes an image in any way, sends one request for all chosen models, shows the answers.
import { card, fill, make, verdict, wait } from "./results.js";

const at = (id) => document.getElementById(id);
const state = { models: new Map(), columns: new Map(), picture: null, asking: null, token: null };
try { state.token = sessionStorage.getItem("podium-token"); } catch { /* the user is asked again */ }

class Told extends Error {}  // an error with a message for the user

async function call(path, options = {}, tries = 3) {
  const headers = { ...options.headers };
  if (state.token) headers.Authorization = `Bearer ${state.token}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers, credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Told("The server does not respond. Is `podium serve` still running?");
  }
  if (response.ok) return response;
  let problem = { code: "", message: `The server responded with status ${response.status}.` };
  try { problem = (await response.json()).error; } catch { /* not from Podium itself */ }
  if (response.status === 401) {
    await askToken();
    return call(path, options, tries);
  }
  if (response.status === 503 && tries > 1) {
    await new Promise((later) => setTimeout(later, 1000 * Number(response.headers.get("Retry-After") || 1)));
    return call(path, options, tries - 1);
  }
  throw new Told(problem.message);
}

let tokenAsked = null;
function askToken() {
  tokenAsked ??= new Promise((given) => {
    const dialog = at("token"), text = at("token-text");
    const done = () => {
      if (!text.value.trim()) return;
      state.token = text.value.trim();
      try { sessionStorage.setItem("podium-token", state.token); } catch { /* for this page only */ }
      text.value = "";
      tokenAsked = null;
      dialog.close();
      given();
    };
    at("token-send").onclick = done;
    text.onkeydown = (event) => { if (event.key === "Enter") done(); };
    dialog.oncancel = (event) => event.preventDefault();
    dialog.showModal();
  });
  return tokenAsked;
}

function say(text) { at("status").textContent = text; }

function fail(error) {
  if (error.name === "AbortError") return;
  if (!(error instanceof Told)) console.error(error);
  const words = error instanceof Told ? error.message : "Something went wrong on this page. Reload it.";
  at("error").textContent = words;
  at("error").hidden = false;
  at("verdict").hidden = at("heat").hidden = true;
  const picture = state.picture;
  for (const column of state.columns.values()) wait(column, picture ? "No answer for this file." : undefined);
  if (picture) {
    picture.words = words;
    if (picture.unseen) at("caption").textContent = words;
  }
  reveal();
}

// ---- a new image ----

function take(blob, { label = null, thumb = null } = {}) {
  const known = Number(document.body.dataset.maxBytes);
  forget();
  if (thumb) thumb.setAttribute("aria-pressed", "true");
  state.picture = { blob, label, url: URL.createObjectURL(blob), unseen: false };
  show(state.picture);
  if (blob.size > known) {
    fail(new Told(`The image has ${(blob.size / 1e6).toFixed(1)} MB; at most ${known / 1e6} MB are accepted. Send a smaller one.`));
  } else {
    ask().then(reveal);
  }
}

function show(picture) {
  const preview = at("preview");
  preview.onload = () => { picture.unseen = false; };
  preview.onerror = () => {
    picture.unseen = true;
    preview.hidden = true;
    at("caption").textContent = picture.words
      ?? "This browser cannot show this file; the server may be able to read it.";
  };
  preview.hidden = false;
  preview.src = picture.url;
  at("caption").replaceChildren();
  if (picture.label !== null) at("caption").append("This example shows ", make("b", { dir: "auto", text: picture.label }));
  at("caption").hidden = false;
  at("shown").hidden = at("another").hidden = at("clear").hidden = false;
  at("choose").hidden = true;
  at("drop").classList.add("filled");
}

function forget() {
  state.asking?.abort();
  state.asking = null;
  if (state.picture) URL.revokeObjectURL(state.picture.url);
  state.picture = null;
  for (const one of document.querySelectorAll("#thumbs button")) one.setAttribute("aria-pressed", "false");
  at("preview").removeAttribute("src");
  for (const id of ["shown", "another", "clear", "verdict", "heat", "error", "busy"]) at(id).hidden = true;
  at("choose").hidden = false;
  at("drop").classList.remove("filled");
  for (const column of state.columns.values()) wait(column);
}

function clear() {
  if (!state.picture) return;
  forget();
  say("Cleared.");
  at("choose").focus();
}

function reveal() {
  if (!state.picture || !matchMedia("(max-width: 61.99rem)").matches) return;  // already visible
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  at("results").scrollIntoView({ behavior: still ? "auto" : "smooth", block: "start" });
}

// ---- requests ----

function chosen() {
  return [...state.models.values()].filter((model) => !state.columns.get(model.name).hidden);
}

async function post(picture, query, signal) {
  const response = await call(`/v1/predict?${query}`, {
    method: "POST",
    headers: { "Content-Type": picture.blob.type || "image/x-unknown" },
    body: picture.blob,
    signal,
  });
  const found = await response.json();
  return found.answers ?? [found];
}

async function ask() {
  const picture = state.picture;
  if (!picture) return;
  state.asking?.abort();
  const asking = state.asking = new AbortController();
  const gradcam = at("gradcam").checked && [...state.models.values()].some((model) => model.gradcam);
  const query = new URLSearchParams({ top: 5, gradcam });
  for (const model of chosen()) query.append("model", model.name);
  at("busy").hidden = false;
  at("error").hidden = true;
  delete picture.words;
  at("results").setAttribute("aria-busy", "true");
  for (const model of chosen()) state.columns.get(model.name).classList.add("old");
  say("Asking.");
  try {
    const answers = await post(picture, query, asking.signal);
    if (asking.signal.aborted) return;
    for (const answer of answers) put({ ...answer, asked: gradcam });
    const words = verdict(answers, state.models);
    at("verdict").replaceChildren(...words);
    at("verdict").hidden = answers.length === 1 && state.models.size === 1;
    at("heat").hidden = !answers.some((answer) => answer.gradcam);
    say(words.map((one) => one.textContent ?? one).join(""));
  } catch (error) {
    if (!asking.signal.aborted) fail(error);
  } finally {
    if (state.asking === asking) {
      at("busy").hidden = true;
      at("results").removeAttribute("aria-busy");
    }
  }
}

function put(answer) {
  const model = state.models.get(answer.model);
  fill(state.columns.get(model.name), model, answer, state.picture, (name) => explain(model, answer, name));
}

async function explain(model, answer, name) {
  const asking = state.asking, picture = state.picture;
  const query = new URLSearchParams({ model: model.name, top: 5, explain: name });
  try {
    const [found] = await post(picture, query, asking.signal);
    if (picture !== state.picture) return;
    put({ ...found, asked: true });
    const again = [...state.columns.get(model.name).querySelectorAll("button.name")];
    again.find((button) => button.getAttribute("aria-pressed") === "true")?.focus();
    say(`Heat map of ${model.label} for ${name}.`);
  } catch (error) {
    fail(error);
  }
}

// ---- inputs ----

function wire() {
  const file = at("file"), photo = at("photo");
  at("choose").addEventListener("click", () => file.click());
  at("another").addEventListener("click", () => file.click());
  at("camera").addEventListener("click", () => photo.click());
  for (const input of [file, photo]) {
    input.addEventListener("change", () => {
      if (input.files.length) take(input.files[0]);
      input.value = "";  // choosing the same file again is also a change
    });
  }
  at("clear").addEventListener("click", clear);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !at("token").open) clear();
  });
  document.addEventListener("paste", (event) => {
    if (event.target.closest?.("dialog")) return;
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) take(files.find((one) => one.type.startsWith("image/")) ?? files[0]);
    else told("There is no image on the clipboard. Copy an image, or a part of the screen.");
    event.preventDefault();
  });
  let depth = 0;
  const over = (on) => { at("veil").hidden = !on; at("drop").classList.toggle("over", on); };
  document.addEventListener("dragenter", (event) => { event.preventDefault(); depth += 1; over(true); });
  document.addEventListener("dragleave", () => { depth = Math.max(0, depth - 1); if (!depth) over(false); });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    over(false);
    const files = [...event.dataTransfer.files];
    if (files.length) take(files[0]);
    else told("That was not a file. Save the image first, or copy it and paste it here.");
  });
  at("gradcam").addEventListener("change", ask);
  const opacity = at("opacity"), original = at("original");
  const heat = () => {
    const bare = original.getAttribute("aria-pressed") === "true";
    at("columns").style.setProperty("--heat", bare ? 0 : opacity.value / 100);
  };
  opacity.addEventListener("input", () => { original.setAttribute("aria-pressed", "false"); heat(); });
  original.addEventListener("click", () => {
    original.setAttribute("aria-pressed", String(original.getAttribute("aria-pressed") !== "true"));
    heat();
  });
}

function told(words) {
  at("error").textContent = words;
  at("error").hidden = false;
}

// ---- the server's models and examples ----

async function begin() {
  const offered = await (await call("/v1/models")).json();
  const classes = new Set();
  for (const model of offered.models) {
    state.models.set(model.name, model);
    state.columns.set(model.name, card(model));
    for (const name of model.classes) classes.add(name);
  }
  const several = offered.models.length > 1;
  at("gradcam-switch").hidden = !offered.models.some((model) => model.gradcam);
  at("columns").append(...state.columns.values());
  if (several) {
    for (const model of offered.models) {
      const first = offered.models.length <= 4 || model.name === offered.default;
      at("chips").append(chip(model, first));
      state.columns.get(model.name).hidden = !first;
    }
    at("choice").hidden = false;
  }
  lead();
  at("classes-title").textContent = `The ${classes.size.toLocaleString("en")} classes`;
  at("class-list").append(...[...classes].map((name) => make("li", { dir: "auto", text: name })));
  at("classes").hidden = false;
  await examples();
}

/** How many models answer now, of how many, and what. */
function lead() {
  const now = chosen(), all = state.models.size;
  const classes = new Set(now.flatMap((model) => model.classes)).size.toLocaleString("en");
  const looks = now.some((model) => model.gradcam);
  const rest = now.length < all ? ` Choose more of the ${all} models under “Side by side”.` : "";
  at("lead").textContent = now.length > 1
    ? `Show them an image: ${now.length} models predict which of ${classes} classes it is${looks ? ", with heat maps" : ""}.${rest}`
    : `Show ${all > 1 ? now[0].label : "it"} an image: it predicts which of ${classes} classes it is${looks ? ", with a heat map" : ""}.${rest}`;
}

function chip(model, checked) {
  const box = make("input", { type: "checkbox" });
  box.checked = checked;
  box.addEventListener("change", () => {
    if (!box.checked && chosen().length === 1) {  // one must remain
      box.checked = true;
      return;
    }
    state.columns.get(model.name).hidden = !box.checked;
    lead();
    ask();
  });
  return make("label", {}, box, make("span", { dir: "auto", text: model.label }));
}

async function examples() {
  const found = await (await call("/v1/examples")).json();
  if (!found.examples.length) return;
  const shown = await Promise.all(found.examples.map(async (one, number) => {
    const blob = await (await call(one.url)).blob();
    const named = one.label === null ? "" : `: ${one.label}`;
    const image = make("img", { src: URL.createObjectURL(blob), alt: `Example ${number + 1}${named}` });
    const button = make("button", { type: "button", "aria-pressed": "false" }, image);
    if (one.label !== null) button.title = one.label;
    button.addEventListener("click", () => take(blob, { label: one.label, thumb: button }));
    return make("li", {}, button);
  }));
  at("thumbs").append(...shown);
  at("examples-hint").textContent = found.source === "test images"
    ? "Small copies of test images: no model was trained on them."
    : "";
  at("examples").hidden = false;
}

wire();
begin().catch(fail);
