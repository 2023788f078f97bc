// A click on a figure, or its button, shows it as large as the window allows. Escape,
// the button or another click closes it.
document.addEventListener("DOMContentLoaded", () => {
  const dialog = document.createElement("dialog");
  dialog.className = "lightbox";
  dialog.setAttribute("aria-label", "Enlarged figure");
  const close = document.createElement("button");
  close.type = "button";
  close.textContent = "Close";
  dialog.addEventListener("click", () => dialog.close());
  dialog.addEventListener("keydown", (event) => {
    // Sphinx takes Escape for itself, so the dialog would not close on its own.
    if (event.key === "Escape") dialog.close();
  });

  function show(figure) {
    const large = figure.cloneNode(true);
    large.classList.remove("zoomable");
    for (const name of ["tabindex", "role"])
      if (large.tagName === "IMG") large.removeAttribute(name);
    dialog.replaceChildren(close, large);
    if (!dialog.isConnected) document.body.append(dialog);
    dialog.showModal();
  }

  for (const drawing of document.querySelectorAll("article svg.artwork")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "enlarge";
    button.textContent = "⤢";
    button.title = "Enlarge the figure";
    button.setAttribute("aria-label", "Enlarge the figure");
    drawing.after(button);
    for (const target of [drawing, button])
      target.addEventListener("click", () => show(drawing));
  }

  for (const image of document.querySelectorAll("article img")) {
    if (image.closest("a:not(.image-reference)")) continue;
    image.classList.add("zoomable");
    const target = image.closest("a") ?? image; // Sphinx links a scaled image to itself
    target.addEventListener("click", (event) => {
      event.preventDefault();
      show(image);
    });
    if (target !== image) continue;
    image.tabIndex = 0;
    image.setAttribute("role", "button");
    image.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      show(image);
    });
  }

  // What is wider than its place can be scrolled with the keys, too.
  const boxes = document.querySelectorAll(
    "article :is(.artwork-box, .cell_output .output, .cell_output > div," +
      " .pst-scrollable-table-container, .wide-table, .tab-panel, .highlight pre)",
  );
  const check = () => {
    for (const box of boxes) {
      if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  check();
  addEventListener("resize", check);
  addEventListener("change", check); // another tab
  addEventListener("toggle", check, true); // more rows
  addEventListener("load", check);
});
