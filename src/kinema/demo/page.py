"""report.html: one page, opened from disk, that shows what a demo run made."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from kinema import __version__
from kinema.demo.comparison import Comparison
from kinema.files import write_text


@dataclass(frozen=True, kw_only=True)
class ClipCard:
    """A curated clip: what was measured, and whether it was kept. `thumbnail` is relative to the page."""

    name: str
    thumbnail: str
    caption: str
    start_s: float
    end_s: float
    size: str
    motion_score: float | None
    kept: bool
    drop_reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything that the page says."""

    clips: Sequence[ClipCard]
    failed: dict[str, str]
    plan: str
    losses: Sequence[tuple[int, float]]
    comparisons: Sequence[Comparison]
    summary: Sequence[tuple[str, str]]
    commands: Sequence[str]


def write_page(target: Path, facts: Facts) -> None:
    """Write the page atomically; videos and pictures are referred to by relative paths."""
    sections = [
        _header(facts.summary),
        _section("Original and generated", _MEMORISED + "".join(map(_comparison, facts.comparisons))),
        _section("The clips", _CLIPS + _grid(facts.clips) + _failures(facts.failed)),
        _section("What was trained on", f"<pre>{html.escape(facts.plan)}</pre>"),
        _section("The loss", _LOSS + loss_curve(facts.losses)),
        _section("Do it again", "<pre>" + html.escape("\n".join(facts.commands)) + "</pre>"),
    ]
    write_text(
        target,
        _PAGE.format(
            style=files("kinema.demo").joinpath("page.css").read_text("utf-8"),
            body="\n".join(sections),
            version=__version__,
        ),
    )


def loss_curve(losses: Sequence[tuple[int, float]], width: int = 860, height: int = 220) -> str:
    """Inline SVG of (step, loss), averaged over 1/60 of the run, on a logarithmic loss axis."""
    points = _averaged(losses, groups=60)
    if len(points) < 2:
        return "<p>Too few steps to draw a curve.</p>"
    steps = [step for step, _ in points]
    logs = [math.log10(max(loss, 1e-12)) for _, loss in points]
    low, high = min(logs), max(*logs, min(logs) + 1e-9)
    left, bottom = 64, 30

    def x(step: float) -> float:
        return left + (width - left - 10) * (step - steps[0]) / (steps[-1] - steps[0])

    def y(log: float) -> float:
        return 10 + (height - bottom - 10) * (high - log) / (high - low)

    line = " ".join(f"{x(step):.1f},{y(log):.1f}" for step, log in zip(steps, logs, strict=True))
    marks = "".join(
        f'<line x1="{left}" x2="{width - 10}" y1="{y(log):.1f}" y2="{y(log):.1f}" class="rule"/>'
        f'<text x="{left - 8}" y="{y(log) + 4:.1f}" text-anchor="end">{10**log:.3g}</text>'
        for log in (low, (low + high) / 2, high)
    )
    ticks = "".join(
        f'<text x="{x(step):.1f}" y="{height - 8}" text-anchor="{anchor}">{step}</text>'
        for step, anchor in ((steps[0], "start"), (steps[len(steps) // 2], "middle"), (steps[-1], "end"))
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Training loss over steps">'
        f'{marks}{ticks}<polyline points="{line}" class="curve"/></svg>'
    )


def _averaged(losses: Sequence[tuple[int, float]], groups: int) -> list[tuple[int, float]]:
    size = max(1, len(losses) // groups)
    chunks = [losses[start : start + size] for start in range(0, len(losses), size)]
    return [(chunk[-1][0], sum(loss for _, loss in chunk) / len(chunk)) for chunk in chunks]


def _header(summary: Sequence[tuple[str, str]]) -> str:
    cells = "".join(
        f"<div><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>" for name, value in summary
    )
    return (
        "<header><h1>kinema demo</h1><p>Footage became clips, clips became batches, batches trained a small "
        f'ST-DiT-2, and the network made video.</p><div class="facts">{cells}</div></header>'
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{body}</section>"


def _comparison(item: Comparison) -> str:
    videos = "".join(
        f'<figure><video src="{html.escape(path)}" autoplay loop muted playsinline controls></video>'
        f"<figcaption>{label}</figcaption></figure>"
        for path, label in (
            (item.original, "original"),
            (item.from_frame, "generated: caption and first frame"),
            (item.from_text, "generated: caption alone"),
        )
    )
    nearer = item.psnr_from_frame > item.psnr_still
    verdict = "nearer to it than a still" if nearer else "no nearer to it than a still"
    return (
        f'<article><h3>{html.escape(item.name)}</h3><p class="caption">“{html.escape(item.caption)}”</p>'
        f'<div class="videos">{videos}</div>'
        f"<p>Given the first frame, the others are {item.psnr_from_frame:.1f} dB from the original: "
        f"{verdict} (the first frame repeated: {item.psnr_still:.1f} dB).</p>"
        f'<img src="{html.escape(item.strip)}" alt="Frames of the original and of both generated videos">'
        "</article>"
    )


def _grid(clips: Sequence[ClipCard]) -> str:
    return '<div class="grid">' + "".join(map(_clip_card, clips)) + "</div>"


def _clip_card(clip: ClipCard) -> str:
    motion = "not measured" if clip.motion_score is None else f"{clip.motion_score:.2f}"
    verdict = "kept" if clip.kept else "dropped: " + "; ".join(clip.drop_reasons)
    picture = f'<img src="{html.escape(clip.thumbnail)}" alt="middle frame">' if clip.thumbnail else ""
    return (
        f'<div class="card {"kept" if clip.kept else "dropped"}">{picture}<b>{html.escape(clip.name)}</b>'
        f"<span>{clip.start_s:.2f} to {clip.end_s:.2f} s, {html.escape(clip.size)}, motion {motion}</span>"
        f'<span class="caption">{html.escape(clip.caption)}</span><em>{html.escape(verdict)}</em></div>'
    )


def _failures(failed: dict[str, str]) -> str:
    if not failed:
        return ""
    rows = "".join(
        f"<li><code>{html.escape(path)}</code>: {html.escape(why)}</li>" for path, why in failed.items()
    )
    return f"<h3>Files that could not be read</h3><ul>{rows}</ul>"


_MEMORISED = (
    "<p>A network this small, trained for minutes on a handful of clips, has <b>memorised</b> them: it gives "
    "back what it was shown when it is told which clip is meant. That is the test here. Making something new "
    "takes more footage and more time.</p>"
)
_CLIPS = (
    "<p>Each source was decoded once. Cuts were found in it, and every span between two cuts is a clip with "
    "its scores; a clip that is left out keeps its row and the reason.</p>"
)
_LOSS = "<p>Averaged over groups of steps; the loss axis is logarithmic.</p>"
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>kinema demo</title><style>{style}</style></head>
<body>{body}<footer><p>Made by kinema {version}.</p></footer></body></html>
"""
