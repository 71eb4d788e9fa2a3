"use strict";
// Keys, hover playback and small things of every page. Pages work without it, apart from playing on hover.

const typing = (element) => element.closest("input, textarea, select, [contenteditable]") !== null;
const token = () => document.body.dataset.token;

// Light or dark.
function turnTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme || (dark ? "dark" : "light");
  const next = now === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  localStorage.setItem("theme", next);
}
document.getElementById("theme").addEventListener("click", turnTheme);

// A card plays while the pointer or the focus is on it.
function play(card) {
  if (!card.dataset.clip || card.querySelector("video")) return;
  const video = document.createElement("video");
  Object.assign(video, { src: card.dataset.clip, muted: true, loop: true, playsInline: true });
  video.setAttribute("aria-hidden", "true");
  card.querySelector(".picture img").after(video);
  video.play().catch(() => {});
}
function stop(card) {
  const video = card.querySelector("video");
  if (!video) return;
  video.removeAttribute("src");
  video.load();
  video.remove();
}
let waiting = 0;
document.addEventListener("pointerover", (event) => {
  const card = event.target.closest(".card");
  clearTimeout(waiting);
  if (card) waiting = setTimeout(() => play(card), 120);
});
document.addEventListener("pointerout", (event) => {
  const card = event.target.closest(".card");
  if (card && !card.contains(event.relatedTarget) && card !== document.activeElement) stop(card);
});
document.addEventListener("focusin", (event) => { const card = event.target.closest(".card"); if (card) play(card); });
document.addEventListener("focusout", (event) => { const card = event.target.closest(".card"); if (card) stop(card); });

// Keys.
let before = "";
const places = { d: "/data", r: "/runs", g: "/generate", a: "/arena" };
function walk(step) {
  const cards = [...document.querySelectorAll("[data-walk] .card")];
  if (!cards.length) return false;
  const at = cards.indexOf(document.activeElement);
  const next = cards[Math.min(cards.length - 1, Math.max(0, at < 0 ? 0 : at + step))];
  next.focus();
  next.scrollIntoView({ block: "nearest" });
  return true;
}
const follow = (rel) => { const link = document.querySelector(`a[rel="${rel}"]`); if (link) link.click(); };
function columns() {
  const grid = document.querySelector("[data-walk]");
  return grid ? getComputedStyle(grid).gridTemplateColumns.split(" ").length : 1;
}
const keys = {
  "/": () => { const box = document.querySelector("input[type=search]"); if (box) { box.focus(); box.select(); } },
  "?": () => { location.href = "/keys"; },
  t: turnTheme,
  j: () => walk(1) || follow("next"),
  k: () => walk(-1) || follow("prev"),
  ArrowRight: () => walk(1),
  ArrowLeft: () => walk(-1),
  ArrowDown: () => walk(columns()),
  ArrowUp: () => walk(-columns()),
  n: () => follow("next"),
  p: () => follow("prev"),
  e: () => { const box = document.getElementById("caption"); if (box) { box.focus(); box.select(); } },
  " ": () => {
    const video = document.querySelector("video.stage");
    if (!video) return false;
    video.paused ? video.play() : video.pause();
    return true;
  },
};
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && typing(event.target)) event.target.blur();
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || document.body.dataset.keys === "own") return;
  if (before === "g" && places[event.key]) { before = ""; location.href = places[event.key]; return; }
  before = event.key;
  const button = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  if (button) { event.preventDefault(); button.click(); return; }
  const arrows = event.key.startsWith("Arrow") && !document.querySelector("[data-walk]");
  if (event.key === " " && event.target.closest("button, a, summary, video")) return;
  if (!arrows && keys[event.key] && keys[event.key]() !== false) event.preventDefault();
});

// What goes wrong is said, not lost.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.xhr.status >= 400) {
    document.getElementById("fault").innerHTML = event.detail.xhr.getResponseHeader("content-type").startsWith("text/html")
      ? event.detail.xhr.responseText : "";
  } else if (event.detail.target.id !== "fault") document.getElementById("fault").replaceChildren();
});
document.addEventListener("htmx:sendError", () => {
  const note = Object.assign(document.createElement("p"), { className: "fault", textContent: "The studio does not answer. Is it still running?" });
  document.getElementById("fault").replaceChildren(note);
});

// A filter that was added is a chip now: empty the fields that made it.
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id === "results")
    for (const name of ["column", "value"]) { const field = document.getElementById(name); if (field) field.value = ""; }
});
// Choosing a column asks nothing yet; the button does.
document.addEventListener("change", (event) => { if (event.target.closest(".apart")) event.stopPropagation(); }, true);

// Thresholds: a handle and its number say the same.
const filters = document.getElementById("filters");
if (filters) {
  const scale = (chart) => {
    const { low, high, log } = chart.dataset, l = +low, h = +high, lg = log !== undefined;
    return {
      value: (share) => (lg ? Math.exp(Math.log(l) + share * (Math.log(h) - Math.log(l))) : l + share * (h - l)),
      share: (value) => (lg ? (Math.log(Math.max(value, l)) - Math.log(l)) / (Math.log(h) - Math.log(l)) : (value - l) / (h - l)),
    };
  };
  const say = (name) => { filters.elements.moved.value = name; };
  let due = 0;
  const moved = () => {
    if (!due) due = setTimeout(() => { due = 0; filters.dispatchEvent(new Event("moved")); }, 60);
  };
  filters.addEventListener("input", (event) => {
    const handle = event.target.closest(".handle");
    if (!handle) return;
    const end = handle.dataset.for.endsWith(".min") ? "0" : "1000";
    const number = filters.elements[handle.dataset.for];
    number.value = handle.value === end ? "" : +scale(handle.closest(".chart")).value(handle.value / 1000).toPrecision(3);
    say(handle.dataset.for);
    moved();
  });
  filters.addEventListener("change", (event) => {
    const chart = event.target.closest(".chart");
    if (!chart || event.target.closest(".handle") || !event.target.name) return;
    say(event.target.name);
    const handle = chart.querySelector(`[data-for="${event.target.name}"]`);
    if (handle) handle.value = event.target.value === "" ? (event.target.name.endsWith(".min") ? 0 : 1000) : Math.round(1000 * scale(chart).share(+event.target.value));
  }, true);
}

// Copy what is shown once.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const field = document.getElementById(button.dataset.copy);
  field.select();
  navigator.clipboard?.writeText(field.value).then(() => { button.textContent = "Copied"; }, () => {});
});
