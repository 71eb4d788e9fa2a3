"""What is in the box, then curate, plan, train, generate, show: the flow of the commands, in one call."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kinema.curate.captions import CaptionConfig
from kinema.curate.filters import Bounds, FilterConfig
from kinema.curate.ledger import thumbnail_path
from kinema.curate.pipeline import CurateConfig, CurateSummary, curate
from kinema.dataset.plan import Plan, make_plan
from kinema.demo.comparison import Comparison, chosen_clips, compare, write_overview
from kinema.demo.footage import sample_footage, write_captions
from kinema.demo.in_the_box import specimens
from kinema.demo.page import ClipCard, Facts, write_demo_page
from kinema.errors import DatasetError
from kinema.files import writable_folder
from kinema.manifest import Clip, read_clips
from kinema.progress import Progress, Silent
from kinema.runlog import read_metrics
from kinema.train.config import TrainConfig
from kinema.train.loop import train

_SHOWN = 4


def run_demo(
    footage: Path | None, out: Path, recipe: TrainConfig, progress: Progress | None = None
) -> dict[str, Any]:
    """Everything ends up in `out`; the same call again goes on where it was stopped.

    Raises `DatasetError` when `out` holds the demo of other footage.
    """
    began, progress = time.monotonic(), progress or Silent()
    writable_folder(out)
    dataset, run = out / "dataset", out / "run"
    in_the_box = specimens(out, progress)
    curated = _curate(footage, out, progress)
    plan = make_plan(dataset, recipe.data)
    _check_same_footage(run, plan)
    trained = train(recipe, dataset, run, (run / "resolved.toml").is_file(), progress)
    clips = chosen_clips(read_clips(dataset), recipe.data, most=_SHOWN)
    comparisons = [compare(clip, bucket, recipe.data, out, progress) for clip, bucket in clips]
    picture = write_overview(out, comparisons)
    page = out / "report.html"
    seconds = time.monotonic() - began
    facts = Facts(
        in_the_box=in_the_box,
        clips=[_card(clip, out) for clip in read_clips(dataset)],
        failed=curated.failed,
        plan=plan.as_text(),
        losses=[(int(row["step"]), float(row["loss"])) for row in read_metrics(run)],
        comparisons=comparisons,
        summary=_summary(curated, trained, seconds),
        commands=_commands(footage, out, comparisons),
    )
    write_demo_page(page, facts)
    return {
        "page": str(page),
        "picture": str(picture),
        "dataset": str(dataset),
        "model": str(run),
        "videos": [str(out / item.from_frame) for item in comparisons]
        + [str(out / item.from_text) for item in comparisons],
        "clips_kept": curated.kept,
        "clips_dropped": curated.clips - curated.kept,
        "first_loss": trained["first_loss"],
        "last_loss": trained["last_loss"],
        "psnr": {item.name: round(item.psnr_from_frame, 2) for item in comparisons},
        "seconds": round(seconds, 1),
    }


def _curate(footage: Path | None, out: Path, progress: Progress) -> CurateSummary:
    if footage is not None:
        return curate([footage], out / "dataset", CurateConfig(), progress)
    table = write_captions(out / "captions.csv")
    # Shots of under two seconds show too little of what their captions say.
    config = CurateConfig(
        captions=CaptionConfig(table=str(table)), filters=FilterConfig(duration_s=Bounds(min=2.0))
    )
    return curate(sample_footage(), out / "dataset", config, progress)


def _check_same_footage(run: Path, plan: Plan) -> None:
    """A run that was begun on other clips is not gone on with."""
    begun = run / "plan.json"
    if begun.is_file() and plan.dataset_version not in begun.read_text(encoding="utf-8"):
        raise DatasetError(
            f"{run} was trained on other clips; give another folder with --out, or remove {run.parent}"
        )


def _summary(curated: CurateSummary, trained: dict[str, Any], seconds: float) -> list[tuple[str, str]]:
    return [
        ("sources", str(curated.sources)),
        ("clips kept", f"{curated.kept} of {curated.clips}"),
        ("parameters", f"{trained['parameters'] / 1e6:.1f} M"),
        ("training steps", str(trained["steps"])),
        ("loss, first and last", f"{trained['first_loss']:.3g} → {trained['last_loss']:.3g}"),
        ("seconds, this run", f"{seconds:.0f}"),
    ]


def _card(clip: Clip, out: Path) -> ClipCard:
    thumbnail = thumbnail_path(out / "dataset", clip.clip_id)
    return ClipCard(
        name=Path(clip.source_path).name,
        thumbnail=thumbnail.relative_to(out).as_posix() if thumbnail.is_file() else "",
        caption=clip.captions[0].text if clip.captions else "",
        start_s=clip.start_s,
        end_s=clip.end_s,
        size=f"{clip.width}x{clip.height}",
        motion_score=clip.motion_score,
        kept=clip.kept,
        drop_reasons=clip.drop_reasons,
    )


def _commands(footage: Path | None, out: Path, comparisons: Sequence[Comparison]) -> list[str]:
    source = "FOOTAGE" if footage is None else f'"{footage}"'
    prompt = comparisons[0].caption if comparisons else "..."
    return [
        f"kinema curate {source} --out {out}/dataset",
        f"kinema plan demo --dataset {out}/dataset",
        f"kinema train demo --dataset {out}/dataset --out {out}/another-run",
        f'kinema generate --model {out}/run --prompt "{prompt}" --out video.mp4',
    ]
