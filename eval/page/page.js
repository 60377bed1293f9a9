// What the page does: sorts tables, draws plots in the colours of the page, filters and shows photos. No network.
"use strict";
const find = (id) => document.getElementById(id);
const data = JSON.parse(find("data").textContent);
const runs = data.against ? [data, data.against] : [data];
const FALSE = ["duplicate", "localisation", "confusion", "both", "background"];
const CONTROLS = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]/g;
const PAIRS = /[\ud800-\udbff][\udc00-\udfff]/g; // letters beyond 16 bits, which are no halves

// --- names: text only, with what would turn or hide them written out, as on the terminal
function printable(text) {
  const escape = (part) => part.replace(CONTROLS, (sign) => "\\u" + sign.charCodeAt(0).toString(16).padStart(4, "0"));
  const whole = String(text).match(PAIRS) || [];
  return String(text).split(PAIRS).map((part, at) => escape(part) + (whole[at] || "")).join("");
}
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// --- tables
function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "descending" ? false : head.getAttribute("aria-sort") === "ascending" || !head.classList.contains("text");
    heads.forEach((each) => each.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].map((row) => [row.cells[column].textContent, row]);
    const numbers = !head.classList.contains("text");
    rows.sort(([a], [b]) => {
      if (!numbers) return (down ? -1 : 1) * a.localeCompare(b);
      const [x, y] = [parseFloat(a), parseFloat(b)];
      return isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) : (down ? y - x : x - y);
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }));
}
document.querySelectorAll("table.sortable").forEach(sortable);

// --- plots: drawn when they come into sight, again when the colours change
const plotted = new Map();
function look(figure) {
  const style = getComputedStyle(document.body), grid = getComputedStyle(document.querySelector(".plot")).borderTopColor;
  const axis = {gridcolor: grid, linecolor: grid, automargin: true};
  const template = {layout: {xaxis: axis, yaxis: axis, hoverlabel: {align: "left"}}};
  const font = {color: style.color, family: style.fontFamily, size: 12};
  const narrow = innerWidth < 700;
  const shown = figure.layout.legend ? {} : {showlegend: !narrow && figure.layout.showlegend !== false};
  const dragmode = matchMedia("(pointer: fine)").matches ? "zoom" : false; // a finger scrolls the page
  return {...figure.layout, ...shown, template, font, dragmode, paper_bgcolor: "transparent", plot_bgcolor: "transparent"};
}
function draw(place) {
  const figure = plotted.get(place.id), ink = getComputedStyle(document.body).color;
  for (const trace of figure.data) if (trace.type === "heatmap") trace.textfont = {color: ink};
  Plotly.react(place, figure.data, look(figure), {responsive: true, displaylogo: false});
  place.dataset.drawn = "1";
}
const plotsSeen = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
  plotsSeen.unobserve(entry.target);
  draw(entry.target);
}), {rootMargin: "300px"});
document.querySelectorAll("script[data-plot]").forEach((block) => {
  const place = find(block.dataset.plot);
  if (!place) return;
  plotted.set(place.id, JSON.parse(block.textContent));
  plotsSeen.observe(place);
});
function redraw() {
  plotted.forEach((_, id) => find(id).dataset.drawn && draw(find(id)));
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
find("theme").addEventListener("click", () => {
  const root = document.documentElement, now = root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
  redraw();
});

// --- lists of classes
const classes = Object.keys(data.classes);
for (const select of [find("class"), find("curve-class")]) {
  select.append(...classes.map((name) => element("option", {value: name}, printable(name))));
}
find("curve-class").addEventListener("change", () => {
  const chosen = find("curve-class").value, figure = plotted.get("plot-curves");
  for (const trace of figure.data) trace.opacity = !chosen || trace.meta === chosen ? 1 : 0.12;
  draw(find("plot-curves"));
});

// --- boxes of a photo, by what became of them
function boxesOf(photo, score) {
  const {found, objects} = photo, boxes = [];
  objects.boxes.forEach((box, row) => {
    const at = objects.found_at[row], hit = at !== null && at >= score;
    const kind = objects.ignored[row] ? "ignored" : hit ? "annotated" : "missed";
    const lost = kind === "missed" && objects.lost ? objects.lost[row] : null;
    const weak = kind === "missed" && at !== null ? `found only at score ${at.toFixed(3)}` : "";
    const note = lost ? `${lost.stage}: ${lost.reason}` : weak || (objects.ignored[row] ? "difficult or crowd" : "");
    boxes.push({box, kind, label: objects.labels[row], note, hints: lost ? lost.boxes : []});
  });
  found.boxes.forEach((box, row) => {
    if (found.scores[row] < score) return;
    boxes.push({box, kind: found.kinds[row], label: found.labels[row], score: found.scores[row], iou: found.ious[row],
      note: found.meant[row] === null ? "" : "on an object of class " + found.meant[row]});
  });
  return boxes;
}
const wanted = {score: 0, label: "", kinds: new Set(), name: ""};
function shownOf(at, run) {
  return boxesOf(runs[run].photos[at], wanted.score).filter((each) =>
    wanted.kinds.has(each.kind) && (!wanted.label || each.label === wanted.label));
}
const tally = (boxes) => {
  const missed = boxes.filter((each) => each.kind === "missed").length;
  const wrong = boxes.filter((each) => FALSE.includes(each.kind)).length;
  return {missed, wrong, mistakes: missed + wrong, boxes: boxes.length};
};

// --- pictures
const SVG = "http://www.w3.org/2000/svg";
function rectangle([x1, y1, x2, y2], names) {
  const made = document.createElementNS(SVG, "rect");
  const numbers = {x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1), class: names};
  for (const [name, value] of Object.entries(numbers)) made.setAttribute(name, value);
  return made;
}
function tag(each, photo) {
  const text = printable(each.label) + (each.score === undefined ? "" : " " + each.score.toFixed(2));
  const made = element("bdi", {class: "tag " + each.kind}, text);
  made.style.left = Math.max(0, 100 * each.box[0] / photo.width) + "%";
  made.style.top = Math.max(0, 100 * each.box[1] / photo.height) + "%";
  return made;
}
function picture(at, run) {
  const photo = runs[run].photos[at], source = find("photo-" + at), boxes = shownOf(at, run);
  const made = element("div", {class: "picture"}), drawing = document.createElementNS(SVG, "svg");
  made.style.aspectRatio = photo.width + " / " + photo.height;
  made.style.setProperty("--ratio", photo.width / photo.height);
  drawing.setAttribute("viewBox", `0 0 ${photo.width} ${photo.height}`);
  drawing.setAttribute("preserveAspectRatio", "none");
  if (source.textContent) made.append(element("img", {src: "data:image/jpeg;base64," + source.textContent, alt: "", decoding: "async"}));
  else made.append(element("p", {}, source.dataset.reason));
  const rects = boxes.map((each) => rectangle(each.box, "box " + each.kind));
  boxes.forEach((each, row) => drawing.append(rectangle(each.box, "under"), rects[row]));
  made.append(drawing, ...boxes.map((each) => tag(each, photo)));
  return {made, rects, boxes};
}
function side(at) {
  const made = element("div", {class: "side"}), parts = runs.map((_, run) => picture(at, run));
  parts.forEach((part, run) => {
    const figure = element("figure", {}, part.made);
    if (runs.length > 1) figure.append(element("figcaption", {}, "AB"[run]));
    made.append(figure);
  });
  return {made, parts};
}

// --- the gallery: a photo is drawn while it is near the window, and cleared when it is not
const gallery = find("gallery"), near = new Set();
const cards = data.photos.map((photo, at) => {
  const button = element("button", {type: "button"}), card = element("li", {"data-photo": at}, button);
  const blank = element("div", {class: "side"}, ...runs.map(() => element("div", {class: "picture"})));
  for (const each of blank.children) each.style.aspectRatio = photo.width + " / " + photo.height;
  const count = element("span"), caption = element("div", {class: "caption"}, element("bdi", {}, printable(photo.image)), count);
  button.append(blank, caption);
  button.addEventListener("click", () => open(at));
  return {card, button, count, blank, tallies: []};
});
const seen = new IntersectionObserver((entries) => entries.forEach(({target, isIntersecting}) => {
  const at = Number(target.dataset.photo);
  isIntersecting ? near.add(at) : near.delete(at);
  fill(at);
}), {rootMargin: "600px"});
function fill(at) {
  const {button, blank} = cards[at];
  button.firstChild.replaceWith(near.has(at) ? side(at).made : blank);
}
const words = ({wrong, missed}) => `${wrong} false, ${missed} missed`;
function arrange() {
  const sum = (at, key) => cards[at].tallies.reduce((total, each) => total + each[key], 0);
  const differ = (at) => Math.abs(cards[at].tallies[0].mistakes - cards[at].tallies.at(-1).mistakes);
  const keys = {
    worst: (at) => -sum(at, "mistakes"), missed: (at) => -sum(at, "missed"), false: (at) => -sum(at, "wrong"),
    differ: (at) => -differ(at), name: () => 0,
  };
  const key = keys[find("order").value], names = data.photos.map((photo) => photo.image);
  const order = cards.map((_, at) => at).sort((a, b) => key(a) - key(b) || (names[a] < names[b] ? -1 : 1));
  gallery.append(...order.map((at) => cards[at].card));
}
function read() {
  wanted.score = Number(find("score").value);
  wanted.label = find("class").value;
  wanted.name = find("name").value.toLowerCase();
  wanted.kinds = new Set([...document.querySelectorAll("input[name=kind]:checked")].map((box) => box.value));
  find("score-shown").value = wanted.score.toFixed(2);
  gallery.classList.toggle("labelled", find("labels").checked);
}
function refresh() {
  read();
  const kinds = {};
  let photos = 0, boxes = 0;
  cards.forEach((each, at) => {
    for (let run = 0; run < runs.length; run += 1) {
      for (const {kind, label} of boxesOf(runs[run].photos[at], wanted.score)) {
        if (!wanted.label || label === wanted.label) kinds[kind] = (kinds[kind] || 0) + 1;
      }
      each.tallies[run] = tally(shownOf(at, run));
    }
    const count = each.tallies.reduce((total, one) => total + one.boxes, 0);
    each.card.hidden = count === 0 || !data.photos[at].image.toLowerCase().includes(wanted.name);
    each.count.textContent = each.tallies.map((one, run) => (runs.length > 1 ? "AB"[run] + ": " : "") + words(one)).join(" · ");
    if (!each.card.hidden) [photos, boxes] = [photos + 1, boxes + count];
  });
  document.querySelectorAll("output[data-count]").forEach((place) => { place.value = kinds[place.dataset.count] || 0; });
  find("status").textContent = `${photos} of ${cards.length} photo${cards.length === 1 ? "" : "s"}, ${boxes} box${boxes === 1 ? "" : "es"}`;
  near.forEach(fill);
}
let asked = 0;
function later(event) {
  cancelAnimationFrame(asked);
  asked = requestAnimationFrame(() => { refresh(); if (event.type === "change") arrange(); });
}
find("filter").addEventListener("input", later);
find("filter").addEventListener("change", later);
find("filter").addEventListener("submit", (event) => event.preventDefault());

// --- one photo, large; the arrow keys show the next
const dialog = find("large");
find("names").addEventListener("change", () => dialog.classList.toggle("labelled", find("names").checked));
find("names").checked = innerWidth > 700; // on a phone they would hide the photo
dialog.classList.toggle("labelled", find("names").checked);
let current = -1;
function row(each, run, rect) {
  const cells = [each.kind, each.label, each.score === undefined ? "" : each.score.toFixed(3), each.iou === undefined ? "" : each.iou.toFixed(2), each.note || ""];
  const made = element("tr", {}, ...cells.map((text, at) => element("td", at < 2 || at === 4 ? {class: "text"} : {}, element("bdi", {}, printable(text)))));
  made.cells[0].classList.add("what", each.kind);
  if (runs.length > 1) made.cells[0].prepend("AB"[run] + " ");
  const hints = (each.hints || []).map((box) => rectangle(box, "box hint"));
  made.tabIndex = 0;
  const light = (on) => () => {
    rect.classList.toggle("lit", on);
    hints.forEach((hint) => on ? rect.after(hint) : hint.remove());
  };
  for (const [name, on] of [["mouseenter", true], ["focus", true], ["mouseleave", false], ["blur", false]]) made.addEventListener(name, light(on));
  return made;
}
function open(at) {
  current = at;
  const {made, parts} = side(at), rows = parts.flatMap(({boxes, rects}, run) => boxes.map((each, place) => row(each, run, rects[place])));
  find("large-title").textContent = `${printable(data.photos[at].image)}: ${cards[at].count.textContent}`;
  find("large-photo").replaceChildren(made);
  find("large-boxes").replaceChildren(...rows);
  if (!dialog.open) dialog.showModal();
}
function step(by) {
  const order = [...gallery.children].filter((card) => !card.hidden).map((card) => Number(card.dataset.photo));
  const next = order[order.indexOf(current) + by];
  if (next !== undefined) open(next);
}
find("previous").addEventListener("click", () => step(-1));
find("next").addEventListener("click", () => step(1));
dialog.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
dialog.addEventListener("close", () => {
  const card = cards[current];
  if (card) card.button.focus();
});

refresh();
arrange();
cards.forEach((each) => seen.observe(each.card));
