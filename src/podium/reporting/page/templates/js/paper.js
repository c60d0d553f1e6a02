// The sentences for a paper: choose language and form, copy.
function startPaper(section) {
  const form = section.querySelector("form");
  const [lang, kind] = all("select", form);
  const told = form.querySelector("output");
  const blocks = all("pre", section);
  const shown = () => blocks.find(({ dataset }) => (
    dataset.lang === lang.value && dataset.form === kind.value));

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => {
    blocks.forEach((one) => { one.hidden = one !== shown(); });
    told.textContent = "";
  });
  form.querySelector("button").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(shown().textContent);
      told.textContent = say("x_paper_copied");
    } catch { // a browser that does not let a page write to the clipboard
      getSelection().selectAllChildren(shown());
      told.textContent = say("x_paper_not_copied");
    }
  });
  form.hidden = false;
}
