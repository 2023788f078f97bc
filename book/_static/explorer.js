// Shows the explorers that a page offers for download within the page, as light or dark
// as the book, as high as they want to be, each with a link to a window of its own.
document.addEventListener("DOMContentLoaded", () => {
  const theme = () =>
    document.documentElement.dataset.theme === "dark" ? "dark" : "light";
  const frames = [];
  for (const place of document.querySelectorAll("article .explorer[data-file]")) {
    const { file: name, label } = place.dataset;
    const file = document.querySelector(`article a.download[href$="/${name}"]`);
    if (!file) continue;
    const frame = document.createElement("iframe");
    frame.title = `Explorer: a plot and a table of all images of ${label}`;
    frame.loading = "lazy";
    frame.src = `${file.href}#${theme()}`;
    const link = document.createElement("a");
    link.href = file.href;
    link.target = "_blank";
    link.rel = "noopener";
    link.textContent = `Open the explorer of ${label} in a window of its own`;
    const line = document.createElement("p");
    line.append(link);
    place.replaceChildren(line, frame);
    frames.push(frame);
  }
  if (!frames.length) return;

  new MutationObserver(() => {
    for (const frame of frames)
      frame.contentWindow.postMessage({ theme: theme() }, "*");
  }).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  window.addEventListener("message", (event) => {
    const height = event.data?.explorerHeight;
    const frame = frames.find((each) => event.source === each.contentWindow);
    if (frame && Number.isFinite(height)) frame.style.height = `${height + 2}px`;
  });
});
