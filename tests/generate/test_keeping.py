"""Pixels of given frames, where a video shows the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kinema.denoiser import Given
from kinema.denoiser.keeping import keep_given


def video(seed: int = 0, frames: int = 7) -> Tensor:
    """A still picture, frame by frame."""
    generator = torch.Generator().manual_seed(seed)
    return (0.5 * torch.randn(1, 3, 1, 20, 24, generator=generator)).expand(-1, -1, frames, -1, -1).clone()


def given(pictures: Tensor | None, *frames: int, count: int = 7) -> Given:
    mask = torch.ones(1, count, dtype=torch.bool)
    mask[:, list(frames)] = False
    return Given(latents=torch.zeros(1, 2, count, 2, 2), denoise_mask=mask, pictures=pictures)


def test_what_stays_is_taken_and_what_moves_is_not() -> None:
    """An autoencoder that loses a constant; something new on the right half from frame 3 on."""
    true = video()
    lossy = true + 0.1
    lossy[:, :, 3:, :, 12:] = 1.0
    kept = keep_given(lossy, given(true, 0), 0.15)
    assert torch.equal(kept[:, :, 0], true[:, :, 0])
    torch.testing.assert_close(kept[:, :, 1:, :, :4], true[:, :, 1:, :, :4], atol=1e-5, rtol=0)
    torch.testing.assert_close(kept[:, :, 3:, :, 20:], lossy[:, :, 3:, :, 20:], atol=1e-2, rtol=0)
    assert torch.equal(keep_given(lossy, given(true, 0), 0.0), lossy)
    assert torch.equal(keep_given(lossy, None, 0.15), lossy)


def test_what_two_near_frames_agree_on_has_stayed() -> None:
    """Not so between frames that are far apart: a loop begins and ends alike and moves all the same."""
    true, other = video(), video(seed=1)
    lossy = other.clone()
    lossy[:, :, [0, 3]] = true[:, :, [0, 3]]
    kept = keep_given(lossy, given(true, 0, 3), 0.15)
    torch.testing.assert_close(kept[:, :, :4], true[:, :, :4])
    torch.testing.assert_close(kept[:, :, 4:], other[:, :, 4:], atol=0.1, rtol=0)
    lossy[:, :, 6] = true[:, :, 6]
    far = keep_given(lossy, given(true, 0, 6), 0.15)
    torch.testing.assert_close(far[:, :, 1:3], other[:, :, 1:3], atol=0.1, rtol=0)


def test_a_row_without_given_frames_stays_as_it_is() -> None:
    lossy = video()
    assert torch.equal(keep_given(lossy, given(torch.zeros_like(lossy)), 0.15), lossy)


def test_edited_frames_are_made() -> None:
    lossy, pictures = video(), torch.zeros(1, 3, 7, 20, 24)
    mask = torch.full((1, 7), 0.5)
    edited = Given(latents=torch.zeros(1, 2, 7, 2, 2), denoise_mask=mask, pictures=pictures)
    assert torch.equal(keep_given(lossy, edited, 0.15), lossy)


def test_pixels_have_to_be_known() -> None:
    with pytest.raises(ValueError, match="only where each has latents of its own"):
        keep_given(video(), given(None, 0), 0.15)
