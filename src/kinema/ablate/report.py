"""What an ablation found: as a page, as Markdown, and as JSON."""

from __future__ import annotations

import html
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from kinema.ablate.cost import minutes
from kinema.ablate.plan import Ablation
from kinema.ablate.verdict import Standing, Verdict
from kinema.ablate.voting import is_simulated
from kinema.evaluate.arena import Arena
from kinema.evaluate.votes import Vote
from kinema.files import write_text
from kinema.page.charts import Range, ranges
from kinema.page.document import header, paragraph, preformatted, reasons, section, table, write_page
from kinema.video.reader import probe, read_frames
from kinema.video.writer import write_image

_SHOWN_PROMPTS = 6
_FRAME = 112
_COLUMNS = ("arm", "clips", "threshold", "rating", "95 %", "first", "Fréchet distance", "95 %")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything that the report tells."""

    plan: Ablation
    results: dict[str, dict[str, Any]]
    verdicts: tuple[Verdict, ...]
    votes: list[Vote]
    seconds: float

    @property
    def voter(self) -> str:
        """Who voted, in words that no reader can take for people when there were none."""
        if not self.votes:
            return (
                f"Nobody has voted yet. Vote with kinema studio {self.plan.out}/arena, then run this again."
            )
        if any(is_simulated(vote) for vote in self.votes):
            return (
                f"{len(self.votes)} SIMULATED votes, drawn from automatic metrics: no person saw these "
                "videos. They show what a study looks like; they do not tell what people prefer."
            )
        voters = len({vote.voter for vote in self.votes})
        return f"{len(self.votes)} votes by {voters} people."


def write_report(facts: Facts, arena: Arena) -> dict[str, Any]:
    """`report.html`, `report.md`, `report.json` and pictures in `report/`; returns what the JSON holds."""
    out, plan = facts.plan.out, facts.plan
    pictures = {verdict.study: _picture(facts, verdict.study, arena) for verdict in facts.verdicts}
    summary: dict[str, Any] = {
        "out": str(out),
        "report": str(out / "report.html"),
        "arena": str(arena.folder),
        "dataset": str(plan.dataset),
        "models": len(plan.jobs),
        "prompts": len(plan.prompts),
        "references": len(plan.design.held_out),
        "votes": len(facts.votes),
        "voter": "none" if not facts.votes else plan.config.voter if _simulated(facts) else "people",
        "recommendations": {verdict.study: verdict.recommendation for verdict in facts.verdicts},
        "left_out": plan.design.left_out,
        "seconds": round(facts.seconds, 1),
    }
    details = {"studies": [verdict.as_dict() for verdict in facts.verdicts], "arms": facts.results}
    cost = {"rates": asdict(plan.cost.rates)}
    write_text(out / "report.json", json.dumps(summary | cost | details, indent=2, ensure_ascii=False) + "\n")
    write_text(out / "report.md", _markdown(facts))
    _page(facts, pictures, arena)
    return summary


def _simulated(facts: Facts) -> bool:
    return any(is_simulated(vote) for vote in facts.votes)


def _rows(facts: Facts, verdict: Verdict) -> list[list[str]]:
    """An arm a row, best first; arms without votes in the order of the study."""
    if verdict.standings:
        return [_row(facts, standing) for standing in verdict.standings]
    arms = [facts.plan.design.arms[name] for name in facts.plan.design.studies[verdict.study]]
    return [
        [arm.words, str(len(arm.clips)), _number(arm.threshold), "", "", "", *_distance(facts, arm.name)]
        for arm in arms
    ]


def _row(facts: Facts, standing: Standing) -> list[str]:
    low, high = standing.interval
    return [
        standing.words,
        str(standing.clips),
        _number(standing.threshold),
        f"{standing.rating:.0f}",
        f"{low:.0f} … {high:.0f}",
        f"{standing.best:.0%}",
        *_distance(facts, standing.arm),
    ]


def _distance(facts: Facts, arm: str) -> list[str]:
    found = facts.results[arm]["metrics"].get("frechet_distance")
    if found is None:
        return ["", ""]
    bounds = "" if found["low"] is None else f"{found['low']:.3g} … {found['high']:.3g}"
    return [f"{found['value']:.3g}", bounds]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _markdown(facts: Facts) -> str:
    lines = [f"# Ablation of {facts.plan.dataset.name}", "", facts.voter, ""]
    for verdict in facts.verdicts:
        lines += [f"## {verdict.study}", "", f"**{verdict.recommendation}**", ""]
        lines += [f"| {' | '.join(_COLUMNS)} |", "| --- |" + " ---: |" * (len(_COLUMNS) - 1)]
        lines += [f"| {' | '.join(row)} |" for row in _rows(facts, verdict)]
        lines.append("")
    if facts.plan.design.left_out:
        lines += ["## Left out", ""]
        lines += [f"- {name}: {why}" for name, why in facts.plan.design.left_out.items()]
        lines.append("")
    return "\n".join([*lines, "## How", "", _how(facts), ""])


def _how(facts: Facts) -> str:
    plan, config = facts.plan, facts.plan.config
    features = next(iter(facts.results.values()))["protocol"].get("features", "")
    return (
        f"{len(plan.jobs)} models from the same starting weights, seed {config.train.seed}, the same number "
        f"of steps ({config.train.steps}), the same {len(plan.prompts)} prompts and seeds; they differ in "
        f"their clips only, or in what the study names. {len(plan.design.held_out)} held-out clips trained "
        "none of them: prompts are their captions and distances are measured to them, unless others were "
        "given. Clips of one source may stand on both sides. Ratings are Davidson's on the Elo scale (1000 "
        "is the study's mean), over both axes; intervals and the share of first places resample prompts. The "
        f"Fréchet distance ({features}) favours arms whose clips are like the held-out ones, so it favours "
        "keeping all; the recommendation rests on the votes. Each arm is one model: what another seed of the "
        "training would have given is in no interval, and an interval over few prompts is too narrow."
    )


def _page(facts: Facts, pictures: dict[str, str], arena: Arena) -> None:
    plan = facts.plan
    sections = [
        header(
            f"Ablation of {plan.dataset.name}",
            facts.voter,
            [
                ("models", str(len(plan.jobs))),
                ("prompts", str(len(plan.prompts))),
                ("held-out clips", str(len(plan.design.held_out))),
                ("votes", str(len(facts.votes))),
                ("this run", minutes(facts.seconds)),
            ],
        )
    ]
    sections += [_study(facts, verdict, pictures[verdict.study]) for verdict in facts.verdicts]
    if plan.design.left_out:
        sections.append(section("Left out", reasons(plan.design.left_out)))
    sections.append(section("How it was done", paragraph(_how(facts))))
    commands = [f"kinema studio {arena.folder}", f"kinema arena fit {arena.folder}/votes.jsonl"]
    sections.append(section("Go on", preformatted("\n".join(commands))))
    write_page(plan.out / "report.html", f"Ablation of {plan.dataset.name}", sections)


def _study(facts: Facts, verdict: Verdict, picture: str) -> str:
    body = paragraph(verdict.recommendation + ".")
    if verdict.standings:
        drawn = sorted(verdict.standings, key=lambda standing: (standing.fraction or 0.0, standing.arm))
        rows = [Range(standing.words, standing.rating, *standing.interval) for standing in drawn]
        body += ranges(f"{verdict.study}: rating by votes", rows)
    body += table(_COLUMNS, _rows(facts, verdict))
    shown = ", ".join(facts.plan.prompts[:_SHOWN_PROMPTS])
    body += (
        f'<figure><img src="{html.escape(picture)}" alt="Middle frames of the videos, an arm a row">'
        f"<figcaption>Middle frames, an arm a row. Prompts: {html.escape(shown)}</figcaption></figure>"
    )
    return section(verdict.study, body)


def _picture(facts: Facts, study: str, arena: Arena) -> str:
    """Middle frames: an arm a row, a prompt a column."""
    prompts = facts.plan.prompts[:_SHOWN_PROMPTS]
    by_place = {(video.model, video.prompt): arena.path(video) for video in arena.videos}
    rows = [
        np.concatenate([_middle(by_place[arm, prompt]) for prompt in prompts], axis=1)
        for arm in facts.plan.design.studies[study]
    ]
    labelled = [
        _labelled(row, facts.plan.design.arms[arm].words)
        for row, arm in zip(rows, facts.plan.design.studies[study], strict=True)
    ]
    write_image(facts.plan.out / "report" / f"{study}.png", np.concatenate(labelled))
    return f"report/{study}.png"


def _middle(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    found = probe(path)
    frame = read_frames(path, [found.duration_s / 2])[0]
    wide = round(_FRAME * frame.shape[1] / frame.shape[0])
    small = cv2.resize(frame, (wide, _FRAME), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.copyMakeBorder(small, 0, 0, 0, 4, cv2.BORDER_CONSTANT, value=(24, 24, 24)))


def _labelled(row: UInt8[np.ndarray, "h w 3"], words: str) -> UInt8[np.ndarray, "h w 3"]:
    band = np.full((18, row.shape[1], 3), 24, np.uint8)
    cv2.putText(band, words, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (235, 235, 235), 1, cv2.LINE_AA)
    return np.concatenate([band, row])
