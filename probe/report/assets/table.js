// Sorting by a click on a heading; the order on arrival is the one that Python gave.
function cellValue(row, column) {
  const cell = row.cells[column];
  const value = cell.dataset.value;
  if (value === undefined) {
    return cell.classList.contains("number") ? null : cell.textContent.trim();
  }
  return value !== "" && Number.isFinite(Number(value)) ? Number(value) : value;
}

function compare(a, b) {
  if (a === null || b === null) {
    return a === null && b === null ? 0 : a === null ? Infinity : -Infinity; // last either way
  }
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
}

function sortBy(table, header) {
  const column = header.cellIndex;
  const direction = header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  for (const other of table.tHead.rows[0].cells) {
    other.removeAttribute("aria-sort");
  }
  header.setAttribute("aria-sort", direction);
  const sign = direction === "ascending" ? 1 : -1;
  const rows = [...table.tBodies[0].rows].sort((a, b) => {
    const order = compare(cellValue(a, column), cellValue(b, column));
    return Number.isFinite(order) ? sign * order : Math.sign(order);
  });
  table.tBodies[0].append(...rows);
  say(`Sorted by ${header.textContent}, ${direction}`);
}

function sortable(table) {
  for (const header of table.tHead.rows[0].cells) {
    header.querySelector("button")?.addEventListener("click", () => sortBy(table, header));
  }
}
