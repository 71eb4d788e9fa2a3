from __future__ import annotations

from pathlib import Path

import numpy as np

from kinema.curate.analysis import AnalysisConfig, analyse, source_id
from kinema.curate.overlay_text import TextConfig
from kinema.curate.pipeline import CurateConfig, curate
from kinema.manifest import read_clips
from kinema.video.writer import write_image

from .conftest import moving_picture


def test_what_may_be_different_next_time_is_told_apart(tmp_path: Path, made: Path) -> None:
    gone = analyse(tmp_path / "gone.mp4", AnalysisConfig(), threads=1).source
    assert (gone.status, gone.source_id) == ("unreadable", source_id(tmp_path / "gone.mp4"))
    assert gone.reason == "no such file"
    broken = analyse(made / "broken.mp4", AnalysisConfig(), threads=1)
    assert (broken.source.status, broken.clips, broken.decodes) == ("failed", [], 1)
    assert broken.source.reason.startswith("is not a video or image")


def test_the_row_holds_what_was_decoded(made: Path) -> None:
    found = analyse(made / "two_shots.mp4", AnalysisConfig(), threads=1)
    row = found.source
    assert (row.status, row.frames, row.width, row.height, row.codec) == ("done", 100, 160, 90, "h264")
    assert (row.fps, row.duration_s) == (20.0, 5.0)
    assert found.decodes == 1
    assert all(content.startswith(b"\xff\xd8") for content in found.thumbnails.values())


def test_a_photo_has_every_score_that_one_frame_can_have(made: Path) -> None:
    config = AnalysisConfig()
    [clip] = analyse(made / "sub" / "red_barn.png", config, threads=1).clips
    scores = (clip.technical_quality, clip.brightness, clip.black_frames, clip.letterbox, clip.frame_hashes)
    assert None not in scores
    assert (clip.text_area is not None) == config.text.active
    assert (clip.motion_score, clip.camera_motion) == (None, None)


def test_the_same_photo_in_another_size_is_a_near_duplicate(tmp_path: Path) -> None:
    photo = moving_picture(1, 3)[0]
    write_image(tmp_path / "in" / "small.png", photo)
    write_image(tmp_path / "in" / "large.png", photo.repeat(2, axis=0).repeat(2, axis=1))
    write_image(tmp_path / "in" / "black.png", np.zeros_like(photo))
    curate([tmp_path / "in"], tmp_path / "out", CurateConfig(workers=0, text=TextConfig(detect="off")))
    found = {Path(clip.source_path).stem: clip.drop_reasons for clip in read_clips(tmp_path / "out")}
    assert found == {"large": (), "small": ("near duplicate",), "black": ("black_frames > 0.5",)}
