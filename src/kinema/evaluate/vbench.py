"""Videos and prompts in the layout that VBench's own program reads."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinema.errors import DatasetError
from kinema.evaluate.sampling import find_spans, sidecar
from kinema.files import atomic_path, writable_folder, write_text

LONGEST_STEM = 180


@dataclass(frozen=True, kw_only=True)
class Prompted:
    """A video and the text it was made from."""

    path: Path
    prompt: str


def prompted_videos(folder: Path) -> list[Prompted]:
    """Videos whose sidecar `<video>.json` states a prompt. A video without one is an error that names it."""
    videos = [span.path for span in find_spans(folder) if isinstance(span.path, Path)]
    return [Prompted(path=path, prompt=_prompt(path)) for path in videos]


def _prompt(video: Path) -> str:
    prompt = str(sidecar(video).get("prompt", "")).strip()
    if not prompt:
        raise DatasetError(f'{video}: no prompt; write {{"prompt": "..."}} into {video.name}.json beside it')
    return prompt


def export_vbench(folder: Path, out: Path) -> dict[str, Any]:
    """Copy videos to `out/videos/<prompt>-<n>.mp4`, n from 0, and write `out/prompts.json` (file to prompt).

    The folder serves VBench's standard prompts, the pair its `custom_input` mode. Characters that a file name
    cannot hold and long prompts are cut, and listed in "renamed": such videos work in custom_input only.
    """
    videos = prompted_videos(folder)
    writable_folder(out / "videos")
    counts: Counter[str] = Counter()
    mapping: dict[str, str] = {}
    renamed: list[str] = []
    for video in videos:
        stem = file_stem(video.prompt)
        name = f"{stem}-{counts[stem]}{video.path.suffix.lower()}"
        counts[stem] += 1
        mapping[name] = video.prompt
        if stem != video.prompt:
            renamed.append(name)
        with atomic_path(out / "videos" / name) as temporary:
            shutil.copyfile(video.path, temporary)
    write_text(out / "prompts.json", json.dumps(mapping, indent=2, ensure_ascii=False) + "\n")
    return {"out": str(out), "videos": len(videos), "prompts": len(set(mapping.values())), "renamed": renamed}


def file_stem(prompt: str) -> str:
    """The prompt as far as a file name can hold it."""
    kept = "".join("_" if char in "/\\\0" or ord(char) < 32 else char for char in prompt).strip(". ")
    while len(kept.encode()) > LONGEST_STEM:
        kept = kept[:-1]
    return kept or "untitled"
