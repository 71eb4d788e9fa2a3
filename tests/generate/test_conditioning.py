from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from kinema.denoiser import VideoShape
from kinema.encoders.latent_frames import TimeGrid, fill_up, latent_mask
from kinema.errors import ConfigError
from kinema.generate.conditioning import (
    Reference,
    frames_at,
    frames_in,
    given_latents,
    latent_strengths,
    lay,
    strengths,
)
from kinema.shapes import Size
from kinema.video.writer import write_image, write_video

CLIP, PICTURE = Path("clip.mp4"), Path("picture.png")
LENGTHS = {CLIP: 10, PICTURE: 1}


class FourFrames:
    """The first latent frame is a frame, each later one the mean of four; 8 x 8 pixels each."""

    latent_channels, spatial_factor, temporal_factor = 3, 8, 4

    def encode(self, video: Tensor) -> Tensor:
        video = fill_up(video, 4)
        first, later = video[:, :, :1], video[:, :, 1:]
        parts = [functional.avg_pool3d(first, (1, 8, 8))]
        return torch.cat(
            [*parts, functional.avg_pool3d(later, (4, 8, 8))] if later.shape[2] else parts, dim=2
        )

    def decode(self, latents: Tensor) -> Tensor:
        frames = latents.repeat_interleave(4, 2)[:, :, 3:]
        return frames.repeat_interleave(8, 3).repeat_interleave(8, 4)


class OneFrame(FourFrames):
    temporal_factor = 1

    def encode(self, video: Tensor) -> Tensor:
        return functional.avg_pool3d(video, (1, 8, 8))


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    """A clip of 12 frames at 4 fps; frame n is grey, 20 n + 10."""
    path = tmp_path / "steps.mp4"
    frames = np.stack([np.full((16, 16, 3), 20 * index + 10, np.uint8) for index in range(12)])
    write_video(path, frames, fps=4)
    return path


def grey(level: float) -> float:
    return level / 127.5 - 1


def test_later_references_overwrite_earlier_ones() -> None:
    cells = lay(
        [
            Reference(path=CLIP, frames=4),
            Reference(path=PICTURE, at=1, frames=2, strength=0.5),
            Reference(path=CLIP, first=-1, at=-1),
        ],
        LENGTHS,
        6,
    )
    assert strengths(cells) == [0.0, 0.5, 0.5, 0.0, 1.0, 0.0]
    assert [cell and cell.frame for cell in cells] == [0, 0, 0, 3, None, 9]


def test_all_of_a_clip_from_its_first_frame_on() -> None:
    cells = lay([Reference(path=CLIP, first=7, at=1)], LENGTHS, 5)
    assert [cell and cell.frame for cell in cells] == [None, 7, 8, 9, None]


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        (Reference(path=CLIP, first=10), "first is 10, but the reference has 10 frames; use -10 to 9"),
        (Reference(path=CLIP, at=-7, frames=1), "at is -7, but the output has 6 frames"),
        (Reference(path=CLIP), "10 frames at 0 end past the output's 6"),
        (Reference(path=CLIP, first=8, frames=3), "3 frames from 8 on end past its 10"),
    ],
)
def test_what_does_not_fit_is_named(reference: Reference, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        lay([reference], LENGTHS, 6)


def test_frames_are_counted_at_the_outputs_rate(steps: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    assert (frames_in(steps, 4.0), frames_in(steps, 2.0), frames_in(steps, 8.0)) == (12, 6, 24)
    assert frames_in(tmp_path / "a.png", 24.0) == 1
    with pytest.raises(ConfigError, match=r"nowhere\.mp4 does not exist"):
        frames_in(tmp_path / "nowhere.mp4", 4.0)


def test_frames_of_a_clip_come_one_by_one(steps: Path) -> None:
    levels = [frame.mean() for frame in frames_at(steps, range(3, 6), Size(8, 8), 4.0)]
    assert levels == pytest.approx([70, 90, 110], abs=3)


def test_given_frames_are_the_references_latents(steps: Path) -> None:
    shape = VideoShape(height=16, width=16, frames=5, fps=2.0)
    references = [
        Reference(path=steps, first=1, at=3, frames=2),
        Reference(path=steps, first=-1, strength=0.4),
    ]
    given = given_latents(lay(references, {steps: 6}, 5), OneFrame(), shape)
    assert given is not None
    torch.testing.assert_close(given.denoise_mask, torch.tensor([[0.4, 1.0, 1.0, 0.0, 0.0]]))
    levels = given.latents[0, :, [0, 3, 4]].mean(dim=(0, 2, 3)).tolist()
    assert levels == pytest.approx([grey(20 * frame + 10) for frame in (10, 2, 4)], abs=0.03)


def test_nothing_is_given_without_references() -> None:
    shape = VideoShape(height=16, width=16, frames=2, fps=4.0)
    assert given_latents((None, None), OneFrame(), shape) is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (1, [0.0, None, None, None]),
        (4, [0.0, None, None, None]),
        (5, [0.0, 0.0, None, None]),
        (9, [0.0, 0.0, 0.0, None]),
        (10, [0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_a_latent_frame_is_given_with_all_of_its_frames(given: int, expected: list[float | None]) -> None:
    """Ten frames at four to a latent, but for the first: 0, 1-4, 5-8, and 9."""
    cells = lay([Reference(path=CLIP, frames=given)], LENGTHS, 10)
    assert latent_strengths(cells, TimeGrid(4)) == expected
    in_training = latent_mask(torch.tensor([[cell is None for cell in cells]]), 4)
    assert in_training.tolist() == [[value is None for value in expected]]


def test_a_latent_frame_is_edited_as_the_most_of_its_frames() -> None:
    references = [Reference(path=CLIP), Reference(path=CLIP, at=3, first=3, frames=3, strength=0.5)]
    assert latent_strengths(lay(references, LENGTHS, 10), TimeGrid(4)) == [0.0, 0.5, 0.5, 0.0]


@pytest.mark.parametrize(("start", "late"), [((3, 9), 3), ((9, 10), 9), ((1, 10), 1)])
def test_packed_frames_are_given_from_the_first_on(start: tuple[int, int], late: int) -> None:
    cells = lay([Reference(path=CLIP, at=start[0], frames=start[1] - start[0])], LENGTHS, 10)
    assert latent_strengths(cells, TimeGrid(1)).count(0.0) == start[1] - start[0]
    with pytest.raises(ConfigError, match=f"frame {late} is given but not the one before it"):
        latent_strengths(cells, TimeGrid(4))


@pytest.mark.parametrize(("frames", "given"), [(6, 2), (12, 4)])
def test_a_temporal_autoencoder_gets_the_frames_in_their_places(steps: Path, frames: int, given: int) -> None:
    """0, 1-4, 5-8, and 9-11, whose last is repeated to fill it."""
    shape = VideoShape(height=16, width=16, frames=12, fps=4.0)
    found = given_latents(lay([Reference(path=steps, frames=frames)], {steps: 12}, 12), FourFrames(), shape)
    assert found is not None
    assert found.denoise_mask.tolist() == [[index >= given for index in range(4)]]
    levels = found.latents[0, :, :given].mean(dim=(0, 2, 3)).tolist()
    middles = [0, 2.5, 6.5, 10.25][:given]
    assert levels == pytest.approx([grey(20 * middle + 10) for middle in middles], abs=0.03)


def test_a_picture_is_the_first_latent_frame(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    write_image(picture, np.full((16, 16, 3), 200, np.uint8))
    shape = VideoShape(height=16, width=16, frames=12, fps=4.0)
    given = given_latents(lay([Reference(path=picture)], {picture: 1}, 12), FourFrames(), shape)
    assert given is not None
    assert given.denoise_mask.tolist() == [[False, True, True, True]]
    assert given.latents[0, :, 0].mean().item() == pytest.approx(grey(200), abs=0.02)
