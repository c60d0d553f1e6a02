// The dialog: its address is in the page URL, so links open it and Back closes it.
const isRoute = (hash) => /^#(class|cell|picture)=/.test(hash);

// The view of an address; none where it is not a view, or refers to something missing.
function viewOf(hash) {
  const found = /^#(class|cell|picture)=(.*)$/.exec(hash);
  if (!found) return null;
  const [, kind, value] = found;
  try {
    if (kind === "cell") {
      const [slug, label, predicted] = value.split(",");
      const run = runNumbers.get(decodeURIComponent(slug));
      const known = (number) => /^\d+$/.test(number) && number < data.classes.length;
      return run !== undefined && known(label) && known(predicted)
        ? cellView(run, Number(label), Number(predicted)) : null;
    }
    const name = decodeURIComponent(value);
    const number = (kind === "class" ? classNumbers : imageNumbers).get(name);
    if (number === undefined) return null;
    return kind === "class" ? classView(number) : pictureView(number);
  } catch (error) {
    if (error instanceof URIError) return null;
    throw error;
  }
}

function startDialog() {
  const dialog = document.getElementById("look");
  const title = dialog.querySelector("h2");
  const body = dialog.querySelector(".content");
  const steps = { before: dialog.querySelector(".before"), after: dialog.querySelector(".after") };
  let opener = null;

  const show = () => {
    const view = viewOf(location.hash);
    if (!view) {
      if (!dialog.open) return;
      dialog.close();
      opener?.focus({ preventScroll: true });
      opener = null;
      return;
    }
    title.textContent = view.title;
    body.replaceChildren(...view.content.filter(Boolean));
    Object.entries(steps).forEach(([name, link]) => {
      link.hidden = !view[name];
      if (view[name]) link.setAttribute("href", view[name]);
      else link.removeAttribute("href");
    });
    if (!dialog.open) {
      opener ||= document.activeElement;
      dialog.showModal();
    }
    dialog.scrollTop = 0;
    title.focus();
  };

  const open = (hash, from) => {
    if (!dialog.open) opener = from || document.activeElement;
    history.pushState({ podium: (history.state?.podium || 0) + 1 }, "", hash);
    show();
  };

  // replace the address when stepping: Back then leaves the list, not each step of it
  const replace = (hash) => {
    history.replaceState(history.state, "", hash);
    show();
  };

  const leave = () => {
    const depth = history.state?.podium || 0;
    if (depth) {
      history.go(-depth);
      return;
    }
    history.replaceState(null, "", location.pathname + location.search); // opened by a link
    show();
  };

  document.addEventListener("click", (event) => {
    if (event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    const link = event.target.closest?.("a[href]");
    const hash = link?.getAttribute("href");
    if (!hash || !isRoute(hash)) return;
    event.preventDefault();
    if (link === steps.before || link === steps.after) replace(hash);
    else open(hash, link);
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest(".close")) leave();
  });
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    leave();
  });
  dialog.addEventListener("close", () => {
    if (isRoute(location.hash)) leave(); // the browser closed it
  });
  dialog.addEventListener("keydown", (event) => {
    const name = { ArrowLeft: "before", ArrowRight: "after" }[event.key];
    if (!name || steps[name].hidden || event.target.closest("select, input")) return;
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.target.matches(".box") && event.target.scrollWidth > event.target.clientWidth) return;
    event.preventDefault();
    replace(steps[name].getAttribute("href"));
  });
  addEventListener("popstate", show);
  show();
  return open;
}
