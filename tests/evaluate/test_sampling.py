"""Which frames are judged: times, cover and crop, short videos, clips of a dataset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kinema.errors import DatasetError, DecodeError
from kinema.evaluate.sampling import Sampling, Span, cover_crop, digest, find_spans, native, sample
from kinema.files import write_text
from kinema.manifest import Clip, read_clips, write_clips
from kinema.shapes import Size
from kinema.video.writer import write_image, write_video


@pytest.fixture(scope="module")
def ramp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 grey frames at 20 fps; frame n has brightness 5 n."""
    path = tmp_path_factory.mktemp("ramp") / "ramp.mp4"
    write_video(path, [np.full((32, 48, 3), 5 * n, np.uint8) for n in range(40)], 20.0)
    return path


def levels(frames: np.ndarray) -> np.ndarray:
    return frames.mean(axis=(1, 2, 3))


def test_frames_are_taken_at_the_protocols_rate_from_the_spans_start(ramp: Path) -> None:
    sampling = Sampling(frames=4, fps=10.0, height=16, width=24)
    whole = sample(Span(path=ramp, name="x"), sampling)
    assert whole.shape == (4, 16, 24, 3)
    assert levels(whole) == pytest.approx([0, 10, 20, 30], abs=3)
    part = sample(Span(path=ramp, name="x", start_s=0.5, end_s=1.0), sampling)
    assert levels(part) == pytest.approx([50, 60, 70, 80], abs=3)


def test_a_span_that_is_too_short_is_refused(ramp: Path) -> None:
    with pytest.raises(DecodeError, match="shorter than 16 frames at 25 fps"):
        sample(Span(path=ramp, name="x", start_s=0.0, end_s=0.5), Sampling(height=16, width=24))


def test_native_keeps_the_rate_and_bounds_frames_and_width(ramp: Path) -> None:
    frames, fps = native(Span(path=ramp, name="x"), 7, widest=24)
    assert (frames.shape, fps) == ((7, 16, 24, 3), 20.0)
    assert levels(frames) == pytest.approx(5 * np.arange(7), abs=3)
    assert native(Span(path=ramp, name="x"), 100)[0].shape == (40, 32, 48, 3)


def test_cover_crop_keeps_shape_and_cuts_the_centre() -> None:
    wide = np.zeros((1, 32, 96, 3), dtype=np.uint8)
    wide[:, :, 32:64] = 200
    cut = cover_crop(wide, Size(height=16, width=16))
    assert cut.shape == (1, 16, 16, 3)
    assert cut[:, :, 2:-2].min() >= 199
    same = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    assert (cover_crop(same, Size(height=16, width=16)) == same).all()


def test_svds_protocol_scales_generated_frames_to_240_x_432_before_the_crop() -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 576).astype(np.uint8)[None, None, :, None], (1, 320, 576, 3))
    cut = cover_crop(np.ascontiguousarray(ramp), Sampling().size)
    assert cut.shape == (1, 240, 320, 3)
    assert cut[0, 0, 0, 0] == pytest.approx(255 * 56 / 432, abs=2)


def test_folders_datasets_and_nothing(ramp: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.mp4").write_bytes(ramp.read_bytes())
    (tmp_path / "a.mp4").write_bytes(ramp.read_bytes())
    (tmp_path / "a.mp4.json").write_text("{}")
    assert [span.name for span in find_spans(tmp_path)] == ["a", "sub/b"]
    assert digest(find_spans(tmp_path)) == digest(find_spans(tmp_path))
    assert [span.name for span in find_spans(ramp)] == ["ramp"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no video to judge"):
        find_spans(tmp_path / "empty")
    with pytest.raises(DatasetError, match="no such file"):
        find_spans(tmp_path / "none")


def test_a_dataset_gives_its_kept_clips(ramp: Path, tmp_path: Path) -> None:
    def clip(name: str, kept: bool) -> Clip:
        return Clip(
            clip_id=name, source_id="s", source_path=str(ramp), start_frame=10, end_frame=20, start_s=0.5,
            end_s=1.0, cut_kind_start="start", cut_kind_end="end", frames=10, fps=20.0, width=48, height=32,
            aspect_ratio=2 / 3, duration_s=0.5, kept=kept,
        )  # fmt: skip

    (tmp_path / "dataset.toml").write_text("")
    write_clips(tmp_path, "0", [clip("kept", True), clip("dropped", False)])
    (span,) = find_spans(tmp_path)
    assert (span.name, span.start_s, span.end_s) == ("kept", 0.5, 1.0)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="frames >= 1"):
        Sampling(frames=0)


def test_pictures_count_only_where_there_is_no_video(tmp_path: Path, ramp: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((16, 16, 3), np.uint8))
    assert [span.name for span in find_spans(tmp_path)] == ["a"]
    (tmp_path / "b.mp4").write_bytes(ramp.read_bytes())
    (tmp_path / "b.mp4.json").write_text('{"prompt": " a ramp "}')
    assert [(span.name, span.prompt) for span in find_spans(tmp_path)] == [("b", "a ramp")]


def test_clips_of_a_dataset_are_found_where_they_are_stored_with_their_captions(squares: Path) -> None:
    spans = find_spans(squares)
    assert [span.prompt for span in spans] == ["a green square moves", "a red square moves"]
    packed = squares.parent / "packed"
    write_text(packed / "dataset.toml", "")
    shard = packed / "shards" / "clips-00000.tar"
    clip = read_clips(squares)[0]
    content = Path(clip.source_path).read_bytes()
    shard.parent.mkdir()
    shard.write_bytes(b"before" + content + b"after")
    stored = {"stored_start_s": 0.0, "stored_end_s": 2.0, "stored_frames": 24}
    place = {"shard": "shards/clips-00000.tar", "offset": 6, "size": len(content)}
    write_clips(packed, "0", [replace(clip, source_path="gone.mp4", **place, **stored)])
    (span,) = find_spans(packed)
    assert levels(native(span, 4)[0]) == pytest.approx(levels(native(spans[0], 4)[0]))
