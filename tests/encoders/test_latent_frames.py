from __future__ import annotations

import pytest
import torch

from kinema.encoders.latent_frames import TimeGrid, fill_up, latent_frames, latent_mask, whole_frames


@pytest.mark.parametrize(
    ("frames", "latent", "whole"), [(1, 1, 1), (2, 2, 5), (5, 2, 5), (6, 3, 9), (8, 3, 9), (17, 5, 17)]
)
def test_frames_and_latent_frames(frames: int, latent: int, whole: int) -> None:
    assert (latent_frames(frames, 4), whole_frames(frames, 4)) == (latent, whole)
    assert (latent_frames(frames, 1), whole_frames(frames, 1)) == (frames, frames)
    assert fill_up(torch.zeros(1, 3, frames, 2, 2), 4).shape[2] == whole


@pytest.mark.parametrize(
    ("given", "frames", "latent_given"),
    [
        ([0], 9, [0]),
        ([0, 1, 2, 3], 9, [0]),
        ([0, 1, 2, 3, 4], 9, [0, 1]),
        ([4, 5, 6, 7, 8], 9, [2]),
        ([5, 6, 7], 8, [2]),
        ([5, 6], 8, []),
        ([], 5, []),
        (list(range(6)), 6, [0, 1, 2]),
    ],
)
def test_a_latent_frame_is_given_only_with_all_its_frames(
    given: list[int], frames: int, latent_given: list[int]
) -> None:
    mask = torch.ones(1, frames, dtype=torch.bool)
    mask[0, given] = False
    found = latent_mask(mask, 4)[0]
    assert torch.nonzero(~found).flatten().tolist() == latent_given
    assert torch.equal(latent_mask(mask, 1), mask)


def test_the_time_grid() -> None:
    grid = TimeGrid(4)
    assert [grid.count(frames) for frames in (1, 2, 5, 6, 10)] == [1, 2, 2, 3, 4]
    assert [grid.span(index, 10) for index in range(4)] == [(0, 1), (1, 5), (5, 9), (9, 10)]
    assert [grid.up(frames) for frames in (1, 2, 5, 6)] == [1, 5, 5, 9]
    assert [grid.down(frames) for frames in (1, 4, 5, 8)] == [1, 1, 5, 5]
    assert [TimeGrid(1).span(index, 3) for index in range(3)] == [(0, 1), (1, 2), (2, 3)]
