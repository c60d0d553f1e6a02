// The section of all test images. It is filled at once: filled later, it would push the target of
// a link down while the page scrolls to it.
function startExplore(open) {
  const section = document.getElementById("explore");
  section.hidden = false;
  all("[data-needs-script]").forEach((one) => { one.hidden = false; });
  startSearch(open);
  const place = section.querySelector(".every");
  let everywhere = everyImage;
  // an image opened from here steps through this list
  place.addEventListener("click", () => { lately = { images: everywhere }; }, true);
  const cards = filteredCards(everyImage, (images) => { everywhere = images; });
  place.replaceChildren(...[partNotice(), cards].filter(Boolean));
}

// Turn an element's content into a link: in a table, a gallery.
function wrap(element, hash) {
  const link = make("a", { class: "to", href: hash }, ...element.childNodes);
  element.append(link);
}

// Turn class names, confusion counts and images into links when they become visible.
function prepareLinks(within) {
  all("th[data-class], td[data-class]", within).forEach((cell) => (
    wrap(cell, classHash(Number(cell.dataset.class)))));
  all("[data-confusion]", within).forEach((cell) => {
    const [label, predicted] = cell.dataset.confusion.split(",");
    const run = runNumbers.get(cell.closest("[data-run]").dataset.run);
    wrap(cell, cellHash(run, label, predicted));
  });
  all("[data-image]", within).forEach((shown) => (
    wrap(shown, imageHash(Number(shown.dataset.image)))));
}
