// A tab chosen in one group is chosen in every group of the page that has it, and the
// links below a figure are those of the tab in sight. Without a script each group is on
// its own, and all links show.
document.addEventListener("DOMContentLoaded", () => {
  const groups = [...document.querySelectorAll("fieldset.data-tabs")];
  const label = (input) => input.nextElementSibling;

  const follow = () => {
    for (const links of document.querySelectorAll(".figure-links")) {
      const after = Node.DOCUMENT_POSITION_FOLLOWING;
      const group = groups.findLast((g) => g.compareDocumentPosition(links) & after);
      const chosen = group?.querySelector(":scope > input:checked");
      if (!chosen) continue; // a single panel has no tabs
      for (const one of links.querySelectorAll("[data-tab]"))
        one.hidden = one.dataset.tab !== label(chosen).textContent;
    }
  };

  document.addEventListener("change", ({ target }) => {
    if (!target.matches("fieldset.data-tabs > input")) return;
    const place = () => label(target).getBoundingClientRect().top;
    const before = place();
    for (const input of groups.flatMap((group) => [...group.children]))
      if (input.matches("input") && label(input).textContent === label(target).textContent)
        input.checked = true;
    follow();
    // Panels above may have another height now; what was clicked stays where it was.
    window.scrollBy({ top: place() - before, behavior: "instant" });
  });
  follow();
});
