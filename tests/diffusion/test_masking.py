from __future__ import annotations

import pytest
import torch

from kinema.diffusion.masking import (
    MaskConfig,
    MaskStrategy,
    denoise_mask,
    draw_denoise_mask,
    draw_denoise_masks,
)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("strategy", list(MaskStrategy))
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 16])
def test_no_strategy_fails_and_one_frame_is_always_generated(strategy, frames):
    for seed in range(30):
        mask = denoise_mask(strategy, frames, seeded(seed))
        assert mask.shape == (frames,)
        assert mask.any()
        if frames == 1 or strategy == MaskStrategy.NONE:
            assert mask.all()
        else:
            assert not mask.all()


@pytest.mark.parametrize(
    ("strategy", "given"),
    [(MaskStrategy.FIRST, [0]), (MaskStrategy.LAST, [7]), (MaskStrategy.ENDS, [0, 7])],
)
def test_fixed_strategies(strategy, given):
    mask = denoise_mask(strategy, 8, seeded(0))
    assert (~mask).nonzero().flatten().tolist() == given


@pytest.mark.parametrize(
    ("strategy", "lengths"),
    [
        (MaskStrategy.FIRST_RUN, {1, 2, 3, 4}),
        (MaskStrategy.LAST_RUN, {1, 2, 3, 4}),
        (MaskStrategy.END_RUNS, {2, 4, 6, 8}),
        (MaskStrategy.RUN, {1, 2, 3, 4}),
        (MaskStrategy.SINGLE, {1}),
        (MaskStrategy.SCATTERED, set(range(1, 9))),
    ],
)
def test_lengths_of_runs(strategy, lengths):
    masks = [denoise_mask(strategy, 16, seeded(seed)) for seed in range(200)]
    assert {int((~mask).sum()) for mask in masks} == lengths


def test_a_run_is_contiguous_and_reaches_every_place():
    masks = torch.stack([denoise_mask(MaskStrategy.RUN, 16, seeded(seed)) for seed in range(300)])
    edges = (masks[:, 1:] != masks[:, :-1]).sum(1)
    assert edges.max() <= 2
    assert (~masks).any(0).all()


def test_interpolation_gives_every_nth_frame():
    for seed in range(20):
        given = (~denoise_mask(MaskStrategy.INTERPOLATION, 12, seeded(seed))).nonzero().flatten()
        assert given[0] == 0
        assert len(given.diff().unique()) == 1
        assert given.diff()[0] >= 2


def test_probabilities_are_met():
    config = MaskConfig(first=0.3, ends=0.2)
    generator = seeded(0)
    masks = torch.stack([draw_denoise_mask(config, 8, generator) for _ in range(4000)])
    given = (~masks).sum(1)
    assert (given == 1).double().mean() == pytest.approx(0.3, abs=0.03)
    assert (given == 2).double().mean() == pytest.approx(0.2, abs=0.03)
    assert (given == 0).double().mean() == pytest.approx(0.5, abs=0.03)


def test_a_mask_depends_on_its_own_generator_only():
    config = MaskConfig(run=0.5, scattered=0.5)
    pair = draw_denoise_masks(config, 16, [seeded(3), seeded(4)])
    assert torch.equal(pair[1], draw_denoise_masks(config, 16, [seeded(4)])[0])


def test_published_mixture_gives_frames_to_a_quarter_of_the_clips():
    generator = seeded(0)
    masks = [draw_denoise_mask(MaskConfig.published(), 16, generator) for _ in range(4000)]
    assert sum(not mask.all() for mask in masks) / 4000 == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("change", [{"first": -0.1}, {"first": 1.1}, {"first": 0.6, "last": 0.6}])
def test_impossible_probabilities_are_refused(change):
    with pytest.raises(ValueError, match="probabilit"):
        MaskConfig(**change)
