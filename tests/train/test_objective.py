from __future__ import annotations

from dataclasses import replace

import torch

from kinema.dataset.loader import Batch
from kinema.diffusion.iddpm import IDDPMConfig
from kinema.diffusion.masking import MaskConfig
from kinema.encoders.embedded import WordTextConfig, WordTextEncoder
from kinema.nn import STDiT2
from kinema.shapes import Bucket
from kinema.train.config import TrainConfig
from kinema.train.objective import Objective, draw

SHAPE = (6, 4, 4, 4)


def test_draws_depend_on_their_own_seed_only(small_run: TrainConfig) -> None:
    alone, beside = draw([7], SHAPE, small_run), draw([3, 7], SHAPE, small_run)
    for name in ("noise", "index", "denoise_mask", "caption_dropped"):
        assert torch.equal(getattr(alone, name)[0], getattr(beside, name)[1])
    assert not torch.equal(beside.noise[0], beside.noise[1])


def test_the_runs_seed_changes_the_draws(small_run: TrainConfig) -> None:
    other = draw([7], SHAPE, replace(small_run, seed=1))
    assert not torch.equal(draw([7], SHAPE, small_run).noise, other.noise)


def test_masks_and_dropped_captions_come_at_their_rates(small_run: TrainConfig) -> None:
    draws = draw(list(range(600)), SHAPE, small_run)
    assert abs(draws.caption_dropped.float().mean().item() - 0.3) < 0.06
    assert abs((~draws.denoise_mask).any(1).float().mean().item() - 0.8) < 0.06
    assert draws.index.min() < 30
    assert draws.index.max() > 970


def make_objective(config: TrainConfig) -> tuple[Objective, STDiT2, Batch]:
    torch.manual_seed(0)
    network = STDiT2(
        replace(
            config.network,
            in_channels=6,
            caption_channels=8,
            max_tokens=6,
            learned_variance=config.process.learned_variance,
        )
    )
    torch.nn.init.normal_(network.final_layer.linear.weight, std=0.1)
    torch.nn.init.normal_(network.blocks[0].cross_attn.proj.weight, std=0.3)
    text_encoder = WordTextEncoder(config.text_encoder, ["red", "square"])
    batch = Batch(
        video=torch.zeros(2, 3, 4, 32, 32),
        captions=["red", "square"],
        fps=torch.tensor([6.0, 6.0]),
        bucket=Bucket("32px", 4, "1.00"),
        clip_ids=["a", "b"],
        step=0,
        epoch=0,
        seeds=[1, 2],
    )
    return Objective(text_encoder, config.process), network, batch


def test_only_generated_frames_count(small_run: TrainConfig) -> None:
    """A network without attention over time would ignore them altogether; the loss must, in any case."""
    objective, network, batch = make_objective(small_run)
    draws = draw(batch.seeds, SHAPE, small_run)
    mask = torch.tensor([[False, True, True, False]] * 2)
    clean = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    loss = objective(network, batch, clean, replace(draws, denoise_mask=mask))["loss"]
    noise = draws.noise.clone()
    noise[:, :, [0, 3]] += 5.0
    moved = objective(network, batch, clean, replace(draws, denoise_mask=mask, noise=noise))["loss"]
    assert loss.shape == (2,)
    assert torch.equal(loss, moved)


def test_a_dropped_caption_no_longer_matters(small_run: TrainConfig) -> None:
    objective, network, batch = make_objective(small_run)
    other = replace(batch, captions=["square", "red"])
    clean = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    for dropped in (False, True):
        draws = replace(draw(batch.seeds, SHAPE, small_run), caption_dropped=torch.tensor([dropped] * 2))
        same = torch.equal(
            objective(network, batch, clean, draws)["loss"], objective(network, other, clean, draws)["loss"]
        )
        assert same is dropped


def test_the_preset_published_noises_given_frames_like_step_zero(small_run: TrainConfig) -> None:
    process = IDDPMConfig()
    draws = draw([1, 2], SHAPE, replace(small_run, process=process, masks=MaskConfig(first=1.0)))
    clean = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    encoder = WordTextEncoder(WordTextConfig(width=8, heads=2, max_tokens=6), ["red"])
    own = Objective(encoder, process)._noised(clean, draws).latents
    published = Objective(encoder, process, preset="published")._noised(clean, draws).latents
    assert torch.equal(own[:, :, 0], clean[:, :, 0])
    moved = (published - clean)[:, :, 0]
    torch.testing.assert_close(moved, 0.01 * draws.noise[:, :, 0], atol=1e-3, rtol=0.05)
    assert torch.equal(own[:, :, 1:], published[:, :, 1:])
