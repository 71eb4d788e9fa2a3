from __future__ import annotations

import gc
import random
import struct
import weakref
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from kinema.errors import DecodeError
from kinema.shapes import Size
from kinema.video.container import Limits
from kinema.video.reader import Reader, decode, decode_count, open_source, probe, read_frames
from kinema.video.writer import write_image, write_video


def numbered(frames: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Each frame is one grey level, so that a decoded frame tells its index."""
    return np.stack([np.full((height, width, 3), 4 * index, dtype=np.uint8) for index in range(frames)])


def index_of(pixels: np.ndarray) -> int:
    return round(float(pixels.mean()) / 4)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    write_video(tmp_path / "clip.mp4", numbered(60), fps=20)
    return tmp_path / "clip.mp4"


def test_sequential_pass_gives_every_frame_with_its_time(clip: Path) -> None:
    frames = list(decode(clip))
    assert [frame.index for frame in frames] == list(range(60))
    assert [frame.pts_s for frame in frames] == pytest.approx([index / 20 for index in range(60)], abs=1e-6)
    assert [index_of(frame.pixels) for frame in frames] == list(range(60))


def test_nothing_of_a_closed_source_waits_for_the_garbage_collector(clip: Path) -> None:
    gc.disable()
    try:
        with open_source(clip, threads=1) as reader:
            picture = next(reader.pictures_at([1.0]))
            left = [weakref.ref(reader), weakref.ref(picture)]
        del reader, picture
        assert [each() for each in left] == [None, None]
    finally:
        gc.enable()


def test_probe_tells_the_container_facts(clip: Path) -> None:
    info = probe(clip)
    assert (info.width, info.height, info.fps, info.frames, info.is_image) == (48, 32, 20.0, 60, False)
    assert (info.duration_s, info.codec, info.rotation) == (3.0, "h264", 0)


def test_random_access_in_any_order(clip: Path) -> None:
    wanted = [41, 3, 3, 59, 0, 17]
    frames = read_frames(clip, [index / 20 for index in wanted])
    assert [index_of(frame) for frame in frames] == wanted


def test_a_time_between_frames_means_the_frame_on_display(clip: Path) -> None:
    assert [index_of(frame) for frame in read_frames(clip, [0.049, 0.051, 1.999, 99.0])] == [0, 1, 39, 59]


def test_size_is_applied_while_decoding(clip: Path) -> None:
    assert next(decode(clip, size=Size(height=10, width=14))).pixels.shape == (10, 14, 3)
    assert read_frames(clip, [0.0, 1.0], size=Size(height=10, width=14)).shape == (2, 10, 14, 3)


def test_random_access_decodes_only_what_is_needed(tmp_path: Path) -> None:
    write_video(tmp_path / "long.mp4", numbered(60).repeat(20, axis=0), fps=20)
    with open_source(tmp_path / "long.mp4", threads=1) as reader:
        decoded = 0
        step = reader._next_raw

        def counted(frames: int, time_s: float) -> av.VideoFrame | None:
            nonlocal decoded
            decoded += 1
            return step(frames, time_s)

        reader._next_raw = counted
        shown = next(reader.pictures_at([55.0]))
    assert shown.pts_s == pytest.approx(55.0)
    assert decoded < 400  # of 1200; a key frame comes every 250


@pytest.mark.parametrize("times", [[], [-0.1], [float("nan")]])
def test_refuses_times_that_mean_nothing(clip: Path, times: list[float]) -> None:
    with pytest.raises(ValueError, match="times_s"):
        read_frames(clip, times)


def test_every_opening_is_counted(clip: Path) -> None:
    before = decode_count.opened
    list(decode(clip))
    probe(clip)
    read_frames(clip, [0.0])
    assert decode_count.opened - before == 3


def test_limits_stop_a_hostile_source(clip: Path) -> None:
    with pytest.raises(DecodeError, match="max_pixels"):
        probe(clip, limits=Limits(max_pixels=1000))
    with pytest.raises(DecodeError, match="max_frames"):
        list(decode(clip, limits=Limits(max_frames=10)))
    with pytest.raises(DecodeError, match="max_seconds"):
        list(decode(clip, limits=Limits(max_seconds=1e-9)))
    with pytest.raises(ValueError, match="max_frames must be positive"):
        Limits(max_frames=0)


def test_a_header_that_promises_a_huge_image_costs_nothing(tmp_path: Path) -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    bomb = tmp_path / "bomb.png"
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    with pytest.raises(DecodeError):
        read_frames(bomb, [0.0])


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.mp4", b"", "empty"),
        ("text.mp4", b"Once upon a time.\n" * 40, "not a video or image"),
        (
            "list.m3u8",
            b"#EXTM3U\n#EXTINF:1,\nclip.mp4\n#EXT-X-ENDLIST\n",
            "not a video or image|cannot be opened",
        ),
        ("notes.txt", b"plain words\n" * 40, "not a video or image"),
    ],
)
def test_what_is_no_video_is_one_line(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    write_video(tmp_path / "clip.mp4", numbered(5), fps=20)
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DecodeError, match=reason) as caught:
        probe(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="no such file"):
        probe(tmp_path / "gone.mp4")
    with pytest.raises(DecodeError, match="not a file"):
        probe(tmp_path)


def test_a_file_cut_off_says_where_decoding_stopped(tmp_path: Path, clip: Path) -> None:
    whole = clip.read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) - 200])
    with pytest.raises(DecodeError, match=r"damaged: decoding stopped after \d+ frames"):
        list(decode(tmp_path / "half.mp4"))
    (tmp_path / "head.mp4").write_bytes(whole[:100])
    with pytest.raises(DecodeError, match=r"not a video or image|damaged|no video in it"):
        probe(tmp_path / "head.mp4")


@pytest.mark.parametrize("name", ["concat:a.mp4", "50%.mp4", "%03d.mp4", "ünï 映像 (1).mp4", "a:b|c.mp4"])
def test_strange_names_are_just_names(tmp_path: Path, clip: Path, name: str) -> None:
    renamed = clip.rename(tmp_path / name)
    assert len(list(decode(renamed))) == 60


def test_variable_rate_and_late_start_follow_the_timestamps(tmp_path: Path) -> None:
    ticks = [500, 540, 580, 700, 1000, 1010]
    with av.open(str(tmp_path / "vfr.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for pixels, pts in zip(numbered(6), ticks, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    frames = list(decode(tmp_path / "vfr.mkv"))
    assert [frame.pts_s for frame in frames] == pytest.approx([(pts - 500) / 1000 for pts in ticks])
    wanted = read_frames(tmp_path / "vfr.mkv", [0.499, 0.5, 0.19, 0.2])
    assert [index_of(frame) for frame in wanted] == [3, 4, 2, 3]


def test_image_is_a_source_of_one_frame(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", numbered(3)[2])
    info = probe(tmp_path / "a.png")
    assert (info.is_image, info.frames, info.fps, info.duration_s) == (True, 1, 0.0, 0.0)
    assert len(list(decode(tmp_path / "a.png"))) == 1


def test_transparent_pixels_lie_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((20, 20, 4), dtype=np.uint8)
    pixels[:, 10:] = (0, 0, 200, 255)  # opaque red, in OpenCV's order
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    frame = read_frames(tmp_path / "a.png", [0.0])[0]
    assert frame[5, 2].tolist() == [255, 255, 255]
    assert frame[5, 15].tolist() == [200, 0, 0]


def test_sixteen_bit_grey_keeps_its_levels(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(1, 64).repeat(16, axis=0)
    cv2.imwrite(str(tmp_path / "a.png"), ramp)
    frame = read_frames(tmp_path / "a.png", [0.0])[0]
    assert np.abs(frame[3, :, 0].astype(int) - np.round(ramp[3] / 257)).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["videos", "nasty", "cutgt"])
def test_random_access_equals_the_pass_on_all_real_clips(footage: Path, folder: str) -> None:
    compared = sum(compare(path) for path in sorted((footage / folder).iterdir()))
    assert compared >= 10


@pytest.mark.parametrize(
    "name",
    [
        "videos/nasa_scaffold.mp4",  # two video streams
        "videos/car_park.gif",
        "videos/sign_again.mkv",  # starts at 33 ms
        "videos/tractor_vp9_text.webm",
        "nasty/rotated_metadata_portrait.mp4",
        "nasty/vfr_two_rates.mp4",
        "nasty/huge_fps_1000.mp4",
        "nasty/non_zero_start.mp4",
    ],
)
def test_random_access_equals_the_pass_on_real_clips(footage: Path, name: str) -> None:
    assert compare(footage / name) > 0


def compare(path: Path) -> int:
    """Frames read one by one against the sequential pass; how many were compared."""
    size = Size(height=48, width=64)
    try:
        frames = list(decode(path, size=size, threads=2))
    except DecodeError:
        return 0
    chosen = random.Random(path.name).choices(range(len(frames)), k=12)
    first = chosen[0]
    chosen += range(first, min(first + 6, len(frames)))
    got = read_frames(path, [frames[index].pts_s for index in chosen], size=size)
    for index, pixels in zip(chosen, got, strict=True):
        assert np.array_equal(pixels, frames[index].pixels), f"{path.name}: frame {index}"
    return len(chosen)


@pytest.mark.parametrize(
    ("name", "width", "height"),
    [
        ("rotate90_decord.mov", 320, 568),
        ("rotated_metadata_portrait.mp4", 270, 480),
        ("sar_2x1.mp4", 1280, 360),
        ("odd_321x241_h264_444.mp4", 321, 241),
        ("odd_321x241_vp9.webm", 321, 241),
        ("tenbit_hevc.mp4", 320, 214),
        ("naïve файл 映像 (1) ü.mp4", 320, 214),
        ("one_frame.mp4", 320, 180),
        ("gif_frame_exceeds_screen.gif", 4, 4),
    ],
)
def test_unusual_files_have_the_shape_on_display(footage: Path, name: str, width: int, height: int) -> None:
    info = probe(footage / "nasty" / name)
    assert (info.width, info.height) == (width, height)
    assert next(decode(footage / "nasty" / name)).pixels.shape == (height, width, 3)


def test_rotation_metadata_turns_the_picture_to_the_left(footage: Path) -> None:
    """The stored 480x270 picture, turned a quarter counterclockwise."""
    path = footage / "nasty" / "rotated_metadata_portrait.mp4"
    with av.open(str(path)) as container:
        stored = next(container.decode(video=0)).to_ndarray(format="rgb24")
    shown = read_frames(path, [0.0])[0].astype(int)
    assert np.abs(shown - np.rot90(stored, 1)).mean() < 3
    assert np.abs(shown - np.rot90(stored, 3)).mean() > 20


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("audio_only.mp4", "no video in it"),
        ("bitrot.mp4", "damaged: decoding stopped after 24 frames"),
        ("corrupted_decord.mp4", "damaged: decoding stopped"),
        ("truncated_mid.mp4", "damaged: decoding stopped after 16 frames"),
        ("truncated_no_moov.mp4", "damaged"),
        ("text_named.mp4", "not a video or image"),
        ("zero_byte.mp4", "empty"),
    ],
)
def test_broken_files_give_one_line(footage: Path, name: str, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason) as caught:
        list(decode(footage / "nasty" / name))
    assert "\n" not in str(caught.value)


def test_going_on_to_a_far_frame_gives_the_frames_of_a_pass(tmp_path: Path) -> None:
    """One key frame at the start, B-frames left out on the way, from any first frame on."""
    path = tmp_path / "long.mp4"
    rows = np.arange(64, dtype=np.uint8)[:, None, None] * np.ones((1, 64, 3), np.uint8)
    write_video(path, [np.roll(rows, step, axis=0) for step in range(120)], fps=24)
    whole = [frame.pixels for frame in decode(path, threads=1)]
    for first in (0, 3, 7, 31, 60, 101):
        places = list(range(first, min(first + 16, 120), 3))
        read = read_frames(path, [(place + 0.5) / 24 for place in places])
        assert all(np.array_equal(one, whole[place]) for one, place in zip(read, places, strict=True))


def test_far_frames_one_after_the_other_are_those_of_a_pass(tmp_path: Path) -> None:
    """Each lies so far on that the reader hurries, with packets still waiting that it read ahead before."""
    path = tmp_path / "long.mp4"
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)
    write_video(path, [np.roll(noise, step, axis=1) for step in range(400)], fps=16)
    whole = [frame.pixels for frame in decode(path, threads=1)]
    places = [10, 70, 72, 130, 190, 250, 251, 310, 390, 399]
    read = read_frames(path, [(place + 0.5) / 16 for place in places])
    assert [
        index for one, index in zip(read, places, strict=True) if not np.array_equal(one, whole[index])
    ] == []


def test_nothing_is_decoded_after_the_last_wanted_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoder is emptied instead of being fed until it gives what it holds back."""
    path = tmp_path / "long.mp4"
    rows = np.arange(64, dtype=np.uint8)[:, None, None] * np.ones((1, 64, 3), np.uint8)
    write_video(path, [np.roll(rows, step, axis=0) for step in range(120)], fps=24)
    whole = [frame.pixels for frame in decode(path, threads=1)]
    last_fed = []
    decode_from = Reader._decode

    def watched(self: Reader, *arguments: object) -> Iterator[av.VideoFrame]:
        yield from decode_from(self, *arguments)
        last_fed.append(max(0.0, self._fed_ticks * self._tick_s))

    monkeypatch.setattr(Reader, "_decode", watched)
    for first in (40, 41, 42, 43, 44):
        places = list(range(first, first + 8))
        read = read_frames(path, [(place + 0.5) / 24 for place in places])
        assert all(np.array_equal(one, whole[place]) for one, place in zip(read, places, strict=True))
        assert last_fed.pop() <= places[-1] / 24 + 1e-6  # decoding time is at most the time of display
    assert not last_fed


def test_frames_that_lean_on_a_key_frame_before_the_start_can_be_reached(footage: Path) -> None:
    """An edit list hides the first key frame, and the next one has leading pictures (open group)."""
    path = footage / "videos" / "rooftop_portrait_hevc10.mp4"
    size = Size(height=64, width=36)
    frames = [frame for frame, _ in zip(decode(path, size=size), range(20), strict=False)]
    for frame in frames[12:]:
        assert np.array_equal(read_frames(path, [frame.pts_s], size=size)[0], frame.pixels), frame.index
