"""The prompts of a protocol, as a table that `kinema generate --prompts` reads."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from kinema.errors import DatasetError
from kinema.evaluate.sampling import Span, find_spans
from kinema.files import write_text

VBENCH_SAMPLES = 5
VBENCH_FLICKER_SAMPLES = 25
"""How many videos VBench asks for of a prompt, and of one of its dimension temporal_flickering."""


def write_prompts(
    source: Path, out: Path, *, videos: int | None = None, each: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Write `out` (columns prompt and seed), a row for each video to make; every row has a seed of its own.

    `source` is a folder of videos in one folder a class, videos with sidecars, a dataset, or VBench's JSON
    list. `videos` in all keeps the share of each prompt; `each` makes so many of every prompt.
    """
    if videos is not None and each is not None:
        raise DatasetError("--videos and --each are both given; leave one out")
    count = each if videos is None else videos
    if count is not None and count < 1:
        raise DatasetError(f"at least one video is needed, got {count}")
    wanted = _of_vbench(source) if source.suffix.lower() == ".json" else _of_videos(source)
    if each is not None:
        wanted = dict.fromkeys(wanted, each)
    if videos is not None:
        wanted = shares(wanted, videos)
    prompts = [prompt for prompt, count in wanted.items() for _ in range(count)]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("prompt", "seed"))
    writer.writerows((prompt, seed + number) for number, prompt in enumerate(prompts))
    write_text(out, table.getvalue())
    return {"out": str(out), "videos": len(prompts), "prompts": len(set(prompts))}


def shares(counts: dict[str, int], total: int) -> dict[str, int]:
    """`counts` scaled to `total`, each within one of its exact share; the largest remainders are rounded up,
    the first of equal ones. Prompts without a video are left out."""
    whole = sum(counts.values())
    exact = {prompt: count * total / whole for prompt, count in counts.items()}
    scaled = {prompt: math.floor(share) for prompt, share in exact.items()}
    by_remainder = sorted(exact, key=lambda prompt: scaled[prompt] - exact[prompt])
    for prompt in by_remainder[: total - sum(scaled.values())]:
        scaled[prompt] += 1
    return {prompt: count for prompt, count in scaled.items() if count}


def _of_videos(place: Path) -> dict[str, int]:
    return dict(Counter(_prompt(span, place) for span in find_spans(place)))


def _prompt(span: Span, place: Path) -> str:
    """A stated prompt or caption, else the name of the folder, as it is: that of a class."""
    if span.prompt:
        return span.prompt
    if isinstance(span.path, Path) and span.path.parent != place and place.is_dir():
        return span.path.parent.name
    raise DatasetError(
        f"{span.path}: no prompt; put the videos of a class into a folder of its name, or write "
        f'{{"prompt": "..."}} into {span.path.name}.json beside it'
    )


def _of_vbench(path: Path) -> dict[str, int]:
    """Entries with `prompt_en` and `dimension`, as in VBench's own list, or plain strings."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read as JSON ({error}); give VBench's list") from error
    if not isinstance(entries, list) or not entries:
        raise DatasetError(f"{path}: not a list of prompts; give VBench's list of entries with prompt_en")
    counts: dict[str, int] = {}
    for number, entry in enumerate(entries):
        prompt, samples = _vbench_entry(entry, f"{path}, entry {number}")
        counts[prompt] = max(samples, counts.get(prompt, 0))
    return counts


def _vbench_entry(entry: object, where: str) -> tuple[str, int]:
    stated = {"prompt_en": entry} if isinstance(entry, str) else entry
    if not isinstance(stated, dict) or not isinstance(stated.get("prompt_en"), str):
        raise DatasetError(f'{where}: no text under "prompt_en"; give VBench\'s list')
    prompt = " ".join(stated["prompt_en"].split())
    if not prompt:
        raise DatasetError(f'{where}: "prompt_en" is empty; take the entry out')
    flickers = "temporal_flickering" in (stated.get("dimension") or ())
    return prompt, VBENCH_FLICKER_SAMPLES if flickers else VBENCH_SAMPLES
