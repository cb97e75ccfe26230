// Tables sort by a click on a header, or by Enter or Space on it. Without this script they keep their order.
"use strict";
function readCell(row, column) {
  const cell = row.cells[column];
  if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
  const copy = cell.cloneNode(true);
  copy.querySelectorAll("small, .share, .unseen").forEach((part) => part.remove());
  const text = copy.textContent.trim();
  if (text === "" || text.startsWith("–")) return null;
  const number = /^([<>]?)([-−+]?[\d,]*\.?\d+(?:e[-+]?\d+)?)(?:%|×|\b)/.exec(text);
  if (!number || !cell.classList.contains("n")) return text.toLocaleLowerCase();
  const tie = { "<": -1e-9, ">": 1e-9, "": 0 }[number[1]];
  return Number(number[2].replace("−", "-").replaceAll(",", "")) + tie;
}
function compareValues(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
}
function sortBy(table, header) {
  const rows = [...table.tBodies[0].rows];
  const keys = new Map(rows.map((row) => [row, readCell(row, header.cellIndex)]));
  const numeric = [...keys.values()].some((key) => typeof key === "number");
  const before = header.getAttribute("aria-sort");
  const down = before === "none" ? numeric : before === "ascending";
  rows.sort((a, b) => {
    const x = keys.get(a), y = keys.get(b);
    if (x === null || y === null) return (x === null) - (y === null); // cells without a value come last
    return down ? compareValues(y, x) : compareValues(x, y);
  });
  table.tBodies[0].append(...rows);
  for (const other of table.tHead.rows[0].cells) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
}
for (const table of document.querySelectorAll("table:not(.matrix, .league)")) {
  if (!table.tHead || !table.tBodies.length || table.tBodies[0].rows.length < 4) continue;
  for (const header of table.tHead.rows[0].cells) {
    if (header.querySelector(".axis") || !header.textContent.trim()) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    header.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sortBy(table, header));
  }
}
