"use strict";
// Curves of runs, drawn by uPlot in the colours of the page.
const STROKES = ["#b4381f", "#2f6fb0", "#3c8a4f", "#8a5fb5", "#b58a1f", "#2b8f95", "#a3486f", "#6b6f76"];
const DARK = ["#ff9470", "#7ab6f0", "#7fd197", "#c6a4ec", "#e6c063", "#6fd0d6", "#ee9dbd", "#b3b8c0"];
const dark = () => getComputedStyle(document.documentElement).colorScheme.includes("dark") && (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const drawn = new Map();
const sync = uPlot.sync("steps");
const short = (value) => (value == null ? "" : Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-3) ? value.toExponential(1) : +value.toPrecision(4) + "");

// A logarithmic axis has whole decades: less than one would leave most of the chart empty.
const decades = (runs) => {
  const values = runs.flatMap((run) => run.y).filter((value) => value != null);
  return values.every((value) => value > 0) && Math.max(...values) >= 10 * Math.min(...values);
};

function options(figure, runs, log) {
  const box = figure.querySelector(".canvas");
  const style = getComputedStyle(document.body);
  const ink = style.color, line = getComputedStyle(figure).borderTopColor;
  const colours = dark() ? DARK : STROKES;
  const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "11px system-ui" };
  return {
    width: box.clientWidth, height: 190, cursor: { sync: { key: sync.key }, points: { size: 5 } },
    legend: { show: true, live: true },
    scales: { x: { time: false }, y: log ? { distr: 3 } : {} },
    axes: [{ ...axis, size: 28 }, { ...axis, size: 56, values: (_, ticks) => ticks.map(short) }],
    series: [{ label: "step", value: (_, value) => (value == null ? "" : String(Math.round(value))) },
      ...runs.map((run, at) => ({ label: run.name, stroke: colours[at % colours.length], width: 1.6, spanGaps: true, points: { show: run.x.length < 2 }, value: (_, value) => short(value) }))],
  };
}
async function draw(figure) {
  const ids = figure.closest(".curves").dataset.runs.trim().split(/\s+/);
  const query = new URLSearchParams([["name", figure.dataset.name], ...ids.map((id) => ["run", id])]);
  const answer = await fetch(`/runs/series?${query}`);
  if (!answer.ok) return;
  const { runs } = await answer.json();
  const some = runs.filter((run) => run.x.length);
  const data = some.length ? uPlot.join(some.map((run) => [run.x, run.y])) : [[], []];
  const known = drawn.get(figure);
  if (known && known.series.length === data.length) known.setData(data);
  else {
    if (known) known.destroy();
    drawn.set(figure, new uPlot(options(figure, some, "log" in figure.dataset && decades(some)), data, figure.querySelector(".canvas")));
  }
  const last = some.map((run) => `${run.name} ${short(run.y.at(-1))}`).join(", ");
  figure.querySelector(".canvas").setAttribute("aria-label", `${figure.dataset.name} over steps; last: ${last}`);
}
const figures = [...document.querySelectorAll(".curve")];
const seen = new IntersectionObserver((entries) => entries.forEach((entry) => { if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target); } }), { rootMargin: "300px" });
figures.forEach((figure) => seen.observe(figure));
const redraw = () => { for (const [figure, plot] of drawn) { plot.destroy(); drawn.delete(figure); draw(figure); } };
new MutationObserver(redraw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
let resized = 0;
addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(redraw, 200); });
if (document.querySelector("#vitals[hx-get]")) setInterval(() => { if (!document.hidden) [...drawn.keys()].forEach(draw); }, 5000);
