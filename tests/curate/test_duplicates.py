from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from kinema.curate.duplicates import DuplicateConfig, HashScorer, frame_hash, mark_duplicates
from kinema.manifest import Clip

CONFIG = DuplicateConfig()


def footage(seed: int, height: int = 90, width: int = 160) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(8, 45, 80))
    soft = np.stack([cv2.GaussianBlur(frame, (0, 0), 5) for frame in noise.cumsum(axis=0)])
    frames = np.clip(128 + 50 * soft / soft.std(), 0, 255).astype(np.uint8)
    return np.stack([cv2.resize(frame, (width, height)) for frame in frames])


def coloured(frames: np.ndarray, colour: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> np.ndarray:
    return (frames[..., None] * np.array(colour)).astype(np.uint8) if frames.ndim == 3 else frames


def clip(name: str, frames: np.ndarray, **facts: object) -> Clip:
    scores = HashScorer(CONFIG)(coloured(frames), np.arange(len(frames)) / 2)
    made = Clip(
        clip_id=name,
        source_id="s",
        source_path="s.mp4",
        start_frame=0,
        end_frame=100,
        start_s=0.0,
        end_s=4.0,
        cut_kind_start="start",
        cut_kind_end="end",
        frames=100,
        fps=25.0,
        width=320,
        height=180,
        aspect_ratio=0.5625,
        duration_s=4.0,
        frame_hashes=str(scores["frame_hashes"]),
    )
    return replace(made, **facts)  # type: ignore[arg-type]


def test_a_hash_survives_size_light_and_compression_and_differs_between_pictures() -> None:
    frame = footage(0)[3]
    _, content = cv2.imencode(".jpg", cv2.resize(frame, (320, 180)), [cv2.IMWRITE_JPEG_QUALITY, 30])
    other = (0.8 * cv2.imdecode(content, cv2.IMREAD_GRAYSCALE) + 15).astype(np.uint8)
    assert (frame_hash(frame) ^ frame_hash(other)).bit_count() <= CONFIG.bits
    strangers = [(frame_hash(footage(seed)[3]) ^ frame_hash(frame)).bit_count() for seed in range(1, 20)]
    assert min(strangers) > 2 * CONFIG.bits


def test_the_best_copy_is_the_original_whatever_the_order() -> None:
    small = clip("a", footage(1), width=160, height=90)
    large = clip("b", footage(1, 180, 320))
    stranger = clip("c", footage(2))
    for order in ([small, large, stranger], [stranger, large, small]):
        marked = {item.clip_id: item.near_duplicate_of for item in mark_duplicates(order, CONFIG)}
        assert marked == {"a": "b", "b": None, "c": None}


def test_black_clips_and_other_durations_are_no_duplicates() -> None:
    black = np.zeros((8, 90, 160), np.uint8)
    longer = clip("d", footage(3), duration_s=9.0)
    clips = [clip("a", black), clip("b", black), clip("c", footage(3)), longer]
    assert [item.near_duplicate_of for item in mark_duplicates(clips, CONFIG)] == [None] * 4


def test_clips_without_hashes_are_left_alone() -> None:
    clips = [replace(clip(name, footage(4)), frame_hashes=None) for name in "ab"]
    assert [item.near_duplicate_of for item in mark_duplicates(clips, CONFIG)] == [None, None]


def test_the_same_picture_in_another_colour_is_another_clip() -> None:
    frames = footage(1)
    red, blue = (coloured(frames, colour) for colour in ((1.0, 0.3, 0.3), (0.45, 0.45, 1.0)))
    marked = mark_duplicates([clip("r", red), clip("b", blue), clip("c", red[:, ::2, ::2])], CONFIG)
    assert [item.near_duplicate_of for item in marked] == ["c", None, None]


def test_duplicates_among_many_are_found_whichever_bits_differ() -> None:
    frames = footage(3)
    base = clip("0", frames)
    rng = np.random.default_rng(0)
    others = []
    for index in range(300):
        row = base.frame_hashes or ""
        flipped = int(row[:16], 16) ^ sum(1 << int(bit) for bit in rng.choice(63, index % 13, replace=False))
        others.append(replace(base, clip_id=f"x{index:03}", frame_hashes=f"{flipped:016x}{row[16:]}"))
    near = {f"x{index:03}" for index in range(300) if index % 13 <= CONFIG.bits}
    for other in others:
        marked = mark_duplicates([base, other], CONFIG)
        assert (marked[1].near_duplicate_of == "0") == (other.clip_id in near)
