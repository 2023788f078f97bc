// A click on a head of a table of class "sortable", or Enter when it has the focus,
// sorts the rows by that column; a second one turns the order round. Cells with the
// attribute data-value are numbers, and those without a number come last either way.
document.addEventListener("DOMContentLoaded", () => {
  const value = (row, column) => {
    const cell = row.cells[column];
    const number = Number.parseFloat(cell.dataset.value);
    return { text: cell.textContent.trim(), number };
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        // Numbers start with the largest, names with A.
        const rows = [...table.tBodies[0].rows];
        const isNumber = rows.some((row) => !Number.isNaN(value(row, column).number));
        const before = head.getAttribute("aria-sort");
        const first = isNumber ? "descending" : "ascending";
        const other = first === "ascending" ? "descending" : "ascending";
        const direction = before === first ? other : first;
        const sign = direction === "ascending" ? 1 : -1;
        heads.forEach((h) => h.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", direction);
        rows.sort((a, b) => {
          const [x, y] = [value(a, column), value(b, column)];
          if (!isNumber) return sign * x.text.localeCompare(y.text);
          if (Number.isNaN(x.number)) return Number.isNaN(y.number) ? 0 : 1;
          if (Number.isNaN(y.number)) return -1;
          return sign * (x.number - y.number);
        });
        table.tBodies[0].append(...rows);
      });
    });
  }
});
