"use strict";
// The form of videos: files dropped on frames, what belongs to which task, and the queue kept up to date.
const make = document.getElementById("make"), drop = document.getElementById("drop"), items = document.getElementById("items");
const files = document.getElementById("files"), uploading = document.getElementById("uploading");

const changed = () => make.dispatchEvent(new Event("changed"));
function showTask() {
  const task = make.elements.task.value;
  for (const part of make.querySelectorAll(".only")) part.hidden = !part.dataset.tasks.split(" ").includes(task);
}
let due = 0;
make.addEventListener("input", () => { clearTimeout(due); due = setTimeout(changed, 200); });
make.addEventListener("change", (event) => {
  showTask();
  if (event.target.name === "model") location.href = `/generate?model=${event.target.value}`;
  else changed();
});
showTask();

// Files.
document.getElementById("choose").addEventListener("click", () => files.click());
files.addEventListener("change", () => { take([...files.files], null); files.value = ""; });
const frameAt = (event) => {
  const cells = event.target.closest?.(".cells");
  if (!cells) return null;
  const box = cells.getBoundingClientRect();
  return Math.max(0, Math.min(cells.dataset.frames - 1, Math.floor(((event.clientX - box.left) / box.width) * cells.dataset.frames)));
};
let dragged = null;
drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
drop.addEventListener("dragleave", (event) => { if (!drop.contains(event.relatedTarget)) drop.classList.remove("over"); });
drop.addEventListener("dragstart", (event) => { dragged = event.target.closest(".item"); });
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const frame = frameAt(event);
  if (dragged) { if (frame !== null) place(dragged, frame); dragged = null; }
  else take([...event.dataTransfer.files], frame);
});
function place(item, frame) {
  const field = item.querySelector('[name$=".at"]');
  if (field) { field.value = frame; changed(); }
}
async function take(list, frame) {
  for (const file of list) {
    uploading.textContent = `Reading ${file.name}…`;
    const number = 1 + Math.max(0, ...[...items.children].map((item) => +item.dataset.number));
    let answer;
    try {
      answer = await fetch(`/generate/uploads?number=${number}`, { method: "POST", body: file, headers: { "X-CSRF-Token": document.body.dataset.token, "HX-Request": "true" } });
    } catch { uploading.textContent = "It could not be sent."; continue; }
    const part = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!answer.ok) { uploading.textContent = part.body.textContent.trim() || "It was not taken."; continue; }
    items.append(...part.body.children);
    uploading.textContent = "";
    showTask();
    if (make.elements.task.value === "text" && list.length === 1 && frame === null && items.children.length === 1 && !file.type.startsWith("video/")) frame = 0;
    if (frame !== null) place(items.lastElementChild, frame);
    changed();
  }
}
items.addEventListener("click", (event) => {
  if (event.target.closest("[data-remove]")) { event.target.closest(".item").remove(); changed(); }
});

// The queue asks again while there is something in it, unless somebody looks at parameters.
const jobs = document.getElementById("jobs");
function keepUp() {
  const busy = jobs.querySelector("[data-busy='yes']");
  if (busy) setTimeout(() => (document.hidden || jobs.querySelector("details[open]") ? keepUp() : jobs.dispatchEvent(new Event("again"))), 700);
}
document.addEventListener("htmx:afterSwap", (event) => { if (event.detail.target === jobs) keepUp(); });
document.addEventListener("pointerover", (event) => { if (event.target.matches?.("video.made")) event.target.play().catch(() => {}); });
document.addEventListener("pointerout", (event) => { if (event.target.matches?.("video.made")) event.target.pause(); });
