"use strict";
// Two videos in step: they begin together, wait for one another, and begin again together.
document.body.dataset.keys = "own";
let shown = performance.now();
let last = "";

function set(ballot) {
  const question = ballot.dataset.question;
  if (question !== last) shown = performance.now();
  last = question;
  const videos = [...ballot.querySelectorAll("video")];
  const again = () => { for (const video of videos) { video.currentTime = 0; video.play().catch(() => {}); } };
  let ready = 0;
  for (const video of videos) {
    video.addEventListener("canplaythrough", () => { ready += 1; if (ready === videos.length) again(); }, { once: true });
    video.addEventListener("ended", () => { if (videos.every((item) => item.ended || item.error)) again(); });
    if (video.readyState >= 4) video.dispatchEvent(new Event("canplaythrough"));
  }
  const [left, right] = videos;
  left.addEventListener("timeupdate", () => {
    if (!right.ended && !left.ended && Math.abs(left.currentTime - right.currentTime) > 0.12) right.currentTime = left.currentTime;
  });
  const form = ballot.querySelector("form");
  form.addEventListener("click", (event) => { if (event.target.closest("[data-key]")) form.elements.took_ms.value = Math.round(performance.now() - shown); });
  ballot.querySelector("#again").addEventListener("click", again);
}
const begin = () => { const ballot = document.querySelector(".ballot"); if (ballot) set(ballot); };
begin();
document.addEventListener("htmx:afterSwap", begin);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const button = event.key === " " ? document.getElementById("again") : document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  if (button && (event.key !== " " || !event.target.closest("button"))) { event.preventDefault(); button.click(); }
});
