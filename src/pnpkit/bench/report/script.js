"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// Light, dark, or as the system says.
const theme = document.getElementById("theme");
theme.addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).colorScheme.includes("dark") &&
    (document.documentElement.dataset.theme === "dark" || matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark && document.documentElement.dataset.theme !== "light" ? "light" : "dark";
  theme.setAttribute("aria-label", `Switch to ${document.documentElement.dataset.theme === "dark" ? "light" : "dark"} colours`);
});

// Sorting: a button in each heading; numbers by data-value, text by itself.
for (const table of all("table.sortable")) {
  all("thead th", table).forEach((head, column) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      all("thead th", table).forEach((h) => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const body = table.tBodies[0];
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim().toLowerCase();
      const order = (a, b) => {
        const [x, y] = [key(a), key(b)];
        const [p, q] = [Number(x), Number(y)];
        if (x === "" || y === "") return (x === "") - (y === "");
        const found = Number.isNaN(p) || Number.isNaN(q) ? String(x).localeCompare(String(y)) : p - q;
        return descending ? -found : found;
      };
      [...body.rows].sort(order).forEach((row) => body.append(row));
    });
  });
}

// Filtering the leaderboard by data set, task and words in the method.
const filters = all(".filters [data-column]");
const count = document.getElementById("count");
function filter() {
  const rows = all("#leaderboard tbody tr");
  let seen = 0;
  for (const row of rows) {
    const fits = filters.every((f) => {
      const text = row.dataset[f.dataset.column].toLowerCase();
      return f.tagName === "SELECT" ? !f.value || text === f.value.toLowerCase() : text.includes(f.value.toLowerCase());
    });
    row.classList.toggle("hidden", !fits);
    seen += fits;
  }
  count.textContent = `${seen} of ${rows.length} rows`;
}
filters.forEach((f) => f.addEventListener("input", filter));
if (count) filter();

// Before and after: two pictures on top of each other, the upper one cut where the slider is.
for (const box of all(".gallery")) {
  const images = JSON.parse(box.querySelector("script").textContent);
  const [left, right] = all("select", box);
  const [under, over] = [box.querySelector(".under"), box.querySelector(".over img")];
  const slider = box.querySelector("input[type=range]");
  const cut = () => {
    box.querySelector(".over").style.width = `${slider.value}%`;
    over.style.width = `${box.querySelector(".compare").clientWidth}px`;
    slider.setAttribute("aria-valuetext", `${slider.value} % ${left.value}, the rest ${right.value}`);
  };
  const show = () => {
    over.src = images[left.value];
    over.alt = left.value;
    under.src = images[right.value];
    under.alt = right.value;
    cut();
  };
  [left, right].forEach((s) => s.addEventListener("input", show));
  slider.addEventListener("input", cut);
  addEventListener("resize", cut);
  // A zoomed crop of every method, at the place that is pointed at or chosen by the arrow keys.
  let [x, y] = [50, 50];
  const zoom = () => all(".crop", box).forEach((c) => { c.style.backgroundPosition = `${x}% ${y}%`; });
  box.querySelector(".compare").addEventListener("pointermove", (event) => {
    const place = event.currentTarget.getBoundingClientRect();
    x = Math.min(100, Math.max(0, (100 * (event.clientX - place.left)) / place.width));
    y = Math.min(100, Math.max(0, (100 * (event.clientY - place.top)) / place.height));
    zoom();
  });
  box.querySelector(".crops").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-5, 0], ArrowRight: [5, 0], ArrowUp: [0, -5], ArrowDown: [0, 5] }[event.key];
    if (!step) return;
    event.preventDefault();
    [x, y] = [x + step[0], y + step[1]].map((v) => Math.min(100, Math.max(0, v)));
    zoom();
  });
  show();
  zoom();
}
