// Sliders for the number of test images and of seeds: which pairs a study of that size would
// decide. The power of each size is computed beforehand; see podium.results.outlook.other_sizes.
const MOST_PLACES = 8; // contenders whose places are listed

function startSizes(section) {
  const block = document.getElementById("other-sizes");
  const { images, seeds, target, names, pairs } = JSON.parse(block.textContent);
  block.remove();
  const [ofImages, ofSeeds] = all("input", section);
  const own = [ofImages.value, ofSeeds.value];
  const reset = section.querySelector("button");
  const told = section.querySelector("output");
  const rows = all("tbody tr", section);
  const counted = (value) => value.toLocaleString(document.documentElement.lang);

  // Contenders with the range of places that the decided pairs leave them.
  const places = (decided) => names.map((name, contender) => {
    const lost = decided.filter(({ of }) => of[1] === contender).length;
    const won = decided.filter(({ of }) => of[0] === contender).length;
    const best = 1 + lost, worst = names.length - won;
    return `${best === worst ? best : `${best}–${worst}`} ${name}`;
  });

  const show = () => {
    const at = Number(ofImages.value), of = Number(ofSeeds.value);
    const about = say(seeds[of] === 1 ? "x_sizes_models" : "x_sizes_recipes");
    [[ofImages, counted(images[at])], [ofSeeds, `${seeds[of]} (${about})`]].forEach(([slider, text]) => {
      slider.setAttribute("aria-valuetext", text);
      slider.nextElementSibling.textContent = text;
    });
    const power = pairs.map((pair) => (pair.power ? pair.power[of][at] : null));
    const isDecided = power.map((share) => share !== null && share >= target);
    rows.forEach((row, pair) => {
      const share = power[pair];
      row.classList.toggle("untold", !isDecided[pair]);
      row.querySelector(".meter").hidden = share === null;
      row.querySelector(".meter i").style.width = `${share ?? 0}%`;
      row.querySelector(".meter + span").textContent = share === null ? say("x_sizes_never") : `${share}\u00a0%`;
    });
    const decided = pairs.filter((_, pair) => isDecided[pair]);
    told.replaceChildren(make("b", {},
      `${say("x_sizes_now", { count: decided.length, pairs: pairs.length })}.`));
    if (names.length <= MOST_PLACES) {
      told.append(` ${say("x_sizes_places", { places: places(decided).join(" · ") })}`);
    }
    // the command's pair: the first that such a study would leave open
    const open = pairs.findIndex((pair, number) => pair.power && !isDecided[number]);
    const pair = open < 0 ? pairs.findIndex((one) => one.power) : open;
    section.querySelector(".command").hidden = pair < 0;
    if (pair >= 0) {
      section.querySelector(".command span").textContent = rows[pair].cells[0].textContent;
      section.querySelector(".command code").textContent = `podium power --n ${images[at]} --seeds ${seeds[of]} ${pairs[pair].command}`;
    }
    reset.hidden = ofImages.value === own[0] && ofSeeds.value === own[1];
  };

  const form = section.querySelector("form");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", show);
  reset.addEventListener("click", () => {
    [ofImages.value, ofSeeds.value] = own;
    show();
    ofImages.focus();
  });
  section.hidden = false;
  show();
}
