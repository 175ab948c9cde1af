"use strict";

// --- tables: a click on a heading sorts by it, figures by size, words by the alphabet -----------
const figure = text => {
  const found = text.replace(/^(n = |< )/, "").match(/^[+-]?\d+(\.\d+)?([eE][+-]?\d+)?/);
  return found ? parseFloat(found[0]) : NaN;
};
function sort(table, column, head) {
  const up = head.getAttribute("aria-sort") !== "ascending";
  const rows = [...table.tBodies[0].rows];
  const text = row => row.cells[column].textContent;
  const order = (a, b) => {
    const x = figure(text(a)), y = figure(text(b));
    if (isNaN(x) && isNaN(y)) return text(a).localeCompare(text(b));
    return isNaN(x) ? 1 : isNaN(y) ? -1 : x - y;
  };
  rows.sort((a, b) => (up ? 1 : -1) * order(a, b)).forEach(row => table.tBodies[0].append(row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
}
for (const table of document.querySelectorAll("main table")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(table, column, head));
    head.append(button);
  });
}

// --- texts: one prompt at a time ------------------------------------------------------------------
const shown = [...document.querySelectorAll(".comparison")];
const pick = document.querySelector(".pick");
if (pick && shown.length > 1) {
  const select = pick.querySelector("select");
  const groups = new Map();
  shown.forEach((section, i) => {
    const why = section.dataset.why;
    if (!groups.has(why)) {
      const group = document.createElement("optgroup");
      group.label = why;
      groups.set(why, group);
      select.append(group);
    }
    const prompt = section.querySelector("blockquote").textContent.replace(/\s+/g, " ");
    groups.get(why).append(new Option(prompt.slice(0, 90), i));
  });
  const show = i => {
    select.value = (i + shown.length) % shown.length;
    shown.forEach((section, j) => { section.hidden = j !== Number(select.value); });
  };
  select.addEventListener("change", () => show(Number(select.value)));
  for (const button of pick.querySelectorAll("button")) {
    button.addEventListener("click", () => show(Number(select.value) + Number(button.dataset.step)));
  }
  pick.hidden = false;
  show(0);
  addEventListener("beforeprint", () => shown.forEach(section => { section.hidden = false; }));
}

// --- tokens: numbers and alternatives, on hover and by the arrow keys ----------------------------
const tip = document.createElement("div");
tip.id = "tip";
tip.setAttribute("role", "tooltip");
tip.hidden = true;
document.body.append(tip);

function fill(token) {
  tip.replaceChildren();
  const line = document.createElement("p");
  line.textContent = token.dataset.words;
  tip.append(line);
  if (!token.dataset.a) return;
  const table = document.createElement("table");
  const rows = [["token", "base", "score", "steered"], ...JSON.parse(token.dataset.a)];
  rows.forEach((cells, i) => {
    const row = table.insertRow();
    for (const text of cells) {
      const cell = document.createElement(i ? "td" : "th");
      cell.textContent = text;
      row.append(cell);
    }
  });
  tip.append(table);
}
function open(token) {
  fill(token);
  tip.hidden = false;
  token.setAttribute("aria-describedby", "tip");
  const box = token.getBoundingClientRect();
  const left = Math.min(box.left, document.documentElement.clientWidth - tip.offsetWidth - 8);
  const below = box.bottom + tip.offsetHeight + 8 < innerHeight;
  tip.style.left = `${Math.max(8, left) + scrollX}px`;
  tip.style.top = `${(below ? box.bottom + 6 : box.top - tip.offsetHeight - 6) + scrollY}px`;
}
function close(token) {
  tip.hidden = true;
  token.removeAttribute("aria-describedby");
}
for (const text of document.querySelectorAll(".text")) {
  const tokens = [...text.querySelectorAll(".t")];
  tokens.forEach((token, i) => {
    token.dataset.words = token.title;
    token.removeAttribute("title");
    token.tabIndex = i ? -1 : 0;
    token.addEventListener("mouseenter", () => open(token));
    token.addEventListener("mouseleave", () => close(token));
    token.addEventListener("focus", () => open(token));
    token.addEventListener("blur", () => close(token));
    token.addEventListener("keydown", event => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") close(token);
      if (!step || !tokens[i + step]) return;
      event.preventDefault();
      token.tabIndex = -1;
      tokens[i + step].tabIndex = 0;
      tokens[i + step].focus();
    });
  });
}
