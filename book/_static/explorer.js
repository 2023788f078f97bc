// Shows the explorer that a page offers for download within the page, as light or dark
// as the book, as high as it wants to be, and gives a link to a window of its own.
document.addEventListener("DOMContentLoaded", () => {
  const place = document.querySelector("article .explorer");
  const file = document.querySelector('article a.download[href$="/explorer.html"]');
  if (!place || !file) return;

  const theme = () =>
    document.documentElement.dataset.theme === "dark" ? "dark" : "light";
  const frame = document.createElement("iframe");
  frame.title = "Explorer: a plot and a table of all images and their scores";
  frame.src = `${file.href}#${theme()}`;
  const link = document.createElement("a");
  link.href = file.href;
  link.target = "_blank";
  link.rel = "noopener";
  link.textContent = "Open the explorer in a window of its own";
  const line = document.createElement("p");
  line.append(link);
  place.replaceChildren(line, frame);

  new MutationObserver(() => {
    frame.contentWindow.postMessage({ theme: theme() }, "*");
  }).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  window.addEventListener("message", (event) => {
    const height = event.data?.explorerHeight;
    if (event.source === frame.contentWindow && Number.isFinite(height))
      frame.style.height = `${height + 2}px`;
  });
});
