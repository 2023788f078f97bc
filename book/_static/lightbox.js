// A click on a figure, or Enter when it has the focus, shows it as large as the window
// allows. Escape or another click closes it.
document.addEventListener("DOMContentLoaded", () => {
  const images = [...document.querySelectorAll("article img")].filter(
    (image) => !image.closest("a:not(.image-reference)"),
  );
  if (images.length === 0) return;

  const dialog = document.createElement("dialog");
  dialog.className = "lightbox";
  dialog.setAttribute("aria-label", "Enlarged figure; Escape closes it");
  const large = document.createElement("img");
  dialog.append(large);
  dialog.addEventListener("click", () => dialog.close());
  dialog.addEventListener("keydown", (event) => {
    // Sphinx takes Escape for itself, so the dialog would not close on its own.
    if (event.key === "Escape") dialog.close();
  });
  document.body.append(dialog);

  for (const image of images) {
    const show = (event) => {
      event.preventDefault();
      large.src = image.src;
      large.alt = image.alt;
      dialog.showModal();
    };
    image.classList.add("zoomable");
    const target = image.closest("a") ?? image; // Sphinx links a scaled image to itself
    target.addEventListener("click", show);
    if (target === image) {
      image.tabIndex = 0;
      image.setAttribute("role", "button");
      image.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") show(event);
      });
    }
  }
});
