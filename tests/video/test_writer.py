from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from kinema.errors import OutputError
from kinema.video.reader import decode, probe, read_frames
from kinema.video.writer import Encoding, image_bytes, write_image, write_video


def moving_square(frames: int = 12, height: int = 48, width: int = 64) -> np.ndarray:
    pixels = np.full((frames, height, width, 3), (40, 90, 160), dtype=np.uint8)
    for index in range(frames):
        pixels[index, 10:30, 2 * index : 2 * index + 20] = (220, 60, 30)
    return pixels


def test_frames_come_back_with_their_colours_and_times(tmp_path: Path) -> None:
    frames = moving_square()
    write_video(tmp_path / "a.mp4", frames, fps=12.5, encoding=Encoding(crf=6))
    back = list(decode(tmp_path / "a.mp4"))
    assert [frame.pts_s for frame in back] == pytest.approx([index / 12.5 for index in range(12)], abs=1e-6)
    error = np.abs(np.stack([frame.pixels for frame in back]).astype(int) - frames)
    assert error.mean() < 4


def test_file_is_h264_yuv420p_bt709_with_the_index_first(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", moving_square(), fps=30000 / 1001)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.codec_context.colorspace == 1
        assert float(stream.average_rate) == pytest.approx(30000 / 1001)
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_odd_sizes_gain_a_row_and_a_column(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", moving_square(height=41, width=63), fps=10)
    info = probe(tmp_path / "a.mp4")
    assert (info.height, info.width) == (42, 64)


def test_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, moving_square(), fps=10)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_a_failing_iterator_leaves_the_old_file_alone(tmp_path: Path) -> None:
    target = tmp_path / "a.mp4"
    target.write_bytes(b"old")

    def frames():
        yield moving_square()[0]
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        write_video(target, frames(), fps=10)
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_refuses_nonsense(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fps must be positive"):
        write_video(tmp_path / "a.mp4", moving_square(), fps=0)
    with pytest.raises(ValueError, match="there are no frames"):
        write_video(tmp_path / "a.mp4", [], fps=10)
    with pytest.raises(ValueError, match="uint8 h w 3"):
        write_video(tmp_path / "a.mp4", moving_square().astype(np.float32), fps=10)
    with pytest.raises(ValueError, match="shape of the first"):
        write_video(tmp_path / "a.mp4", [moving_square()[0], moving_square(height=20)[0]], fps=10)


def test_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        write_video(tmp_path / "file" / "a.mp4", moving_square(), fps=10)


def test_image_comes_back_exactly(tmp_path: Path) -> None:
    frame = moving_square()[3]
    write_image(tmp_path / "a.png", frame)
    assert np.array_equal(read_frames(tmp_path / "a.png", [0.0])[0], frame)


def test_unknown_image_suffix_is_refused() -> None:
    with pytest.raises(OutputError, match=r"use \.png"):
        image_bytes(moving_square()[0], ".nonsense")
