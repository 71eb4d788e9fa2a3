"""Evaluation end to end on small videos: files, distances that order, pairs, skips."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.torch import save_file

from kinema.errors import ConfigError, DatasetError
from kinema.evaluate.lpips import ALEXNET, Lpips
from kinema.evaluate.metrics import EvaluateConfig, evaluate
from kinema.evaluate.sampling import Sampling
from kinema.video.writer import write_video

CONFIG = EvaluateConfig(sampling=Sampling(frames=4, fps=8.0, height=32, width=32), bootstraps=20, paired=True)


def make(folder: Path, noise: float, count: int = 4) -> Path:
    """Squares that move over grey, the same ones in each folder, with noise added."""
    folder.mkdir()
    for video in range(count):
        generator = np.random.default_rng(video)
        frames = np.full((8, 32, 32, 3), 90, dtype=np.float64)
        for n, frame in enumerate(frames):
            frame[8:20, 2 + n : 14 + n] = generator.integers(100, 250) if n == 0 else frames[0, 10, 5]
        frames += noise * generator.normal(size=frames.shape)
        write_video(folder / f"clip-{video}.mp4", np.clip(frames, 0, 255).astype(np.uint8), 8.0)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("sets")
    return {"real": make(root / "real", 0), "near": make(root / "near", 4), "far": make(root / "far", 60)}


def test_worse_videos_are_farther_and_noisier(folders: dict[str, Path], tmp_path: Path) -> None:
    near = evaluate(folders["near"], folders["real"], tmp_path / "near", CONFIG)["metrics"]
    far = evaluate(folders["far"], folders["real"], tmp_path / "far", CONFIG)["metrics"]
    for metric in ("frechet_distance", "kernel_distance", "temporal_flicker", "warp_error"):
        assert near[metric]["value"] < far[metric]["value"], metric
    for metric in ("psnr", "ssim", "first_frame_fidelity"):
        assert near[metric]["value"] > far[metric]["value"], metric
    assert near["psnr"]["videos"] == 4


def test_files_hold_the_result_and_a_rerun_is_equal(folders: dict[str, Path], tmp_path: Path) -> None:
    result = evaluate(folders["near"], folders["real"], tmp_path, CONFIG)
    assert json.loads((tmp_path / "evaluation.json").read_text()) == result
    page = (tmp_path / "evaluation.md").read_text()
    assert "| frechet_distance |" in page
    assert all(
        (tmp_path / line.split("](")[1][:-1]).is_file() for line in page.splitlines() if line.startswith("![")
    )
    assert result == evaluate(folders["near"], folders["real"], tmp_path, CONFIG)


def test_a_set_against_itself_has_no_distance(folders: dict[str, Path], tmp_path: Path) -> None:
    metrics = evaluate(folders["real"], folders["real"], tmp_path, CONFIG)["metrics"]
    assert metrics["frechet_distance"]["value"] == pytest.approx(0, abs=1e-6)
    assert metrics["psnr"]["value"] == 100
    assert metrics["ssim"]["value"] == pytest.approx(1)


def test_alone_there_are_no_distances_and_bad_files_are_listed(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "good.mp4").write_bytes((folders["real"] / "clip-0.mp4").read_bytes())
    (mixed / "bad.mp4").write_bytes(b"not a video")
    result = evaluate(mixed, None, tmp_path / "out")
    assert "frechet_distance" not in result["metrics"]
    assert list(result["skipped"]) == [f"{mixed / 'bad.mp4'} [bad]"]
    assert "Not judged:" in (tmp_path / "out" / "evaluation.md").read_text()
    (mixed / "good.mp4").unlink()
    with pytest.raises(DatasetError, match="none of the 1 videos can be judged"):
        evaluate(mixed, None, tmp_path / "out")


def test_videos_too_short_for_the_protocol_and_unmatched_names_are_errors(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=r"needs two videos on each side; .*shorter than 99 frames"):
        evaluate(folders["near"], folders["real"], tmp_path, EvaluateConfig(sampling=Sampling(frames=99)))
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for path in folders["real"].iterdir():
        (renamed / f"other-{path.name}").write_bytes(path.read_bytes())
    with pytest.raises(DatasetError, match="no video shares its name"):
        evaluate(folders["near"], renamed, tmp_path / "out", CONFIG)


def test_lpips_joins_the_pairs_when_weights_are_given(folders: dict[str, Path], tmp_path: Path) -> None:
    weights = tmp_path / "alex.safetensors"
    save_file({key: value.clone() for key, value in Lpips(ALEXNET).state_dict().items()}, weights)
    config = replace(CONFIG, lpips=weights, most_frames=2)
    same = evaluate(folders["real"], folders["real"], tmp_path / "out", config)
    assert same["metrics"]["lpips"]["value"] == 0


def test_a_camera_motion_that_a_sidecar_asks_for_is_checked(tmp_path: Path) -> None:
    rough = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    whole = cv2.resize(rough, (192, 128), interpolation=cv2.INTER_CUBIC)
    frames = np.stack([whole[:96, 2 * n : 2 * n + 128] for n in range(8)])
    for name, wish in (("a", "pan_right"), ("b", "zoom_in"), ("c", None)):
        write_video(tmp_path / "pans" / f"{name}.mp4", frames, 8.0)
        if wish:
            (tmp_path / "pans" / f"{name}.mp4.json").write_text(json.dumps({"camera_motion": wish}))
    obeyed = evaluate(tmp_path / "pans", None, tmp_path / "out")["metrics"]["camera_motion_obeyed"]
    assert (obeyed["value"], obeyed["videos"]) == (0.5, 2)


def test_pairs_need_references(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="add --against"):
        evaluate(folders["real"], None, tmp_path, CONFIG)
    with pytest.raises(ValueError, match="set paired"):
        EvaluateConfig(lpips=tmp_path / "w.safetensors")


def test_the_config_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="most_frames >= 1"):
        EvaluateConfig(most_frames=0)
