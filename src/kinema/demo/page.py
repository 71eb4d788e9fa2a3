"""report.html: one page, opened from disk, that shows what a demo run made."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kinema.demo.comparison import Comparison
from kinema.demo.in_the_box import Specimen
from kinema.page.charts import loss_curve
from kinema.page.document import header, preformatted, reasons, section, write_page


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

    in_the_box: Sequence[Specimen]
    clips: Sequence[ClipCard]
    failed: dict[str, str]
    plan: str
    losses: Sequence[tuple[int, float]]
    comparisons: Sequence[Comparison]
    summary: Sequence[tuple[str, str]]
    commands: Sequence[str]


def write_demo_page(target: Path, facts: Facts) -> None:
    """Write the page atomically; videos and pictures are referred to by relative paths."""
    sections = [
        header("kinema demo", _LEAD, facts.summary),
        section("What comes with kinema", _BOX + _specimens(facts.in_the_box)),
        section(
            "Trained on footage: original and generated",
            _MEMORISED + "".join(map(_comparison, facts.comparisons)),
        ),
        section("The clips", _CLIPS + _grid(facts.clips) + _failures(facts.failed)),
        section("What was trained on", preformatted(facts.plan)),
        section("The loss", _LOSS + loss_curve(facts.losses)),
        section("Do it again", preformatted("\n".join(facts.commands))),
    ]
    write_page(target, "kinema demo", sections)


def _specimens(made: Sequence[Specimen]) -> str:
    figures = "".join(
        f'<figure><video src="{html.escape(item.video)}" autoplay loop muted playsinline controls></video>'
        f"<figcaption>{html.escape(item.prompt)}</figcaption></figure>"
        for item in made
    )
    return f'<div class="videos">{figures}</div>'


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
    return f"<h3>Files that could not be read</h3>{reasons(failed)}" if failed else ""


_LEAD = (
    "Footage became clips, clips became batches, batches trained a small ST-DiT-2, and the network "
    "made video."
)
_BOX = (
    "<p>Made from these prompts by the small model that is in the package, before anything was trained. It "
    "knows a rendered world of simple shapes and nothing else: it gives the colour that is asked for, mostly "
    "the shape, and <b>in eight of ten videos the motion</b> "
    "(docs/model-card.md). The rest of this page is another network, trained just now on footage.</p>"
)
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
