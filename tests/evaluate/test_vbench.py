"""VBench's layout: names, numbering, the prompt file, prompts that no file name can hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kinema.errors import DatasetError
from kinema.evaluate.vbench import export_vbench, file_stem


def video(folder: Path, name: str, prompt: str | None) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(name.encode())
    if prompt is not None:
        (folder / f"{name}.json").write_text(json.dumps({"prompt": prompt}))


def test_videos_are_named_by_prompt_and_number(tmp_path: Path) -> None:
    samples = tmp_path / "samples"
    video(samples, "1.mp4", "a red ball")
    video(samples, "2.mp4", "a red ball")
    video(samples, "3.mp4", "half/half")
    summary = export_vbench(samples, tmp_path / "out")
    names = ["a red ball-0.mp4", "a red ball-1.mp4", "half_half-0.mp4"]
    assert sorted(path.name for path in (tmp_path / "out" / "videos").iterdir()) == names
    assert (tmp_path / "out" / "videos" / "a red ball-1.mp4").read_bytes() == b"2.mp4"
    assert json.loads((tmp_path / "out" / "prompts.json").read_text()) == dict(
        zip(names, ["a red ball", "a red ball", "half/half"], strict=True)
    )
    assert (summary["videos"], summary["prompts"], summary["renamed"]) == (3, 2, ["half_half-0.mp4"])


def test_a_missing_or_empty_sidecar_is_named(tmp_path: Path) -> None:
    video(tmp_path / "a", "1.mp4", None)
    with pytest.raises(DatasetError, match=r"1\.mp4: no prompt; write .* into 1\.mp4\.json"):
        export_vbench(tmp_path / "a", tmp_path / "out")
    (tmp_path / "a" / "1.mp4.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"1\.mp4: no prompt"):
        export_vbench(tmp_path / "a", tmp_path / "out")


def test_no_prompt_leaves_the_folder_or_breaks_the_file_system() -> None:
    assert "/" not in file_stem("../../etc/passwd")
    assert file_stem("..") == "untitled"
    assert len(file_stem("é" * 500).encode()) <= 180
