"use strict";
const body = document.querySelector("#cases tbody");
const rows = Array.from(body.rows);
const heads = Array.from(document.querySelectorAll("#cases thead th"));
const order = new Intl.Collator(undefined, { numeric: true });

function sortBy(column) {
  const ascending = heads[column].getAttribute("aria-sort") !== "ascending";
  heads.forEach((head, place) => {
    if (head.hasAttribute("aria-sort")) {
      const sorted = ascending ? "ascending" : "descending";
      head.setAttribute("aria-sort", place === column ? sorted : "none");
    }
  });
  const key = (row) => row.cells[column].dataset.sort;
  const compare = (a, b) => (isNaN(a) || isNaN(b) ? order.compare(a, b) : a - b);
  const sorted = [...rows].sort((a, b) => compare(key(a), key(b)) * (ascending ? 1 : -1));
  body.append(...sorted);
}

function show() {
  const words = document.getElementById("find").value.toLowerCase();
  const flagged = document.getElementById("flagged").checked;
  let count = 0;
  for (const row of rows) {
    const fits = row.textContent.toLowerCase().includes(words);
    row.hidden = !(fits && (!flagged || row.classList.contains("flagged")));
    count += !row.hidden;
  }
  document.getElementById("shown").textContent = count < rows.length ? `${count} shown` : "";
}

heads.forEach((head, column) => {
  head.querySelector("button")?.addEventListener("click", () => sortBy(column));
});
document.getElementById("find").addEventListener("input", show);
document.getElementById("flagged").addEventListener("change", show);
show();
