from __future__ import annotations

import pytest
import torch
from einops import repeat

from kinema.encoders.embedded import (
    PatchPCAConfig,
    WordTextConfig,
    WordTextEncoder,
    build_vocabulary,
    fit_patch_pca,
)


def smooth_video(seed: int = 0, frames: int = 3, size: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(2 * frames, 3, 5, 5, generator=generator) * 2 - 1
    fine = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")
    return fine.reshape(2, frames, 3, size, size).permute(0, 2, 1, 3, 4)


def test_all_components_are_an_exact_inverse() -> None:
    video = smooth_video()
    autoencoder = fit_patch_pca(PatchPCAConfig(patch=4, components=48), [video])
    torch.testing.assert_close(autoencoder.decode(autoencoder.encode(video)), video, atol=1e-4, rtol=0)


def test_decode_then_encode_is_the_identity_on_latents() -> None:
    autoencoder = fit_patch_pca(PatchPCAConfig(patch=4, components=6), [smooth_video()])
    latents = torch.randn(1, 6, 2, 3, 5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(autoencoder.encode(autoencoder.decode(latents)), latents, atol=1e-4, rtol=0)


def test_few_components_keep_most_of_a_smooth_video() -> None:
    video = smooth_video()
    autoencoder = fit_patch_pca(PatchPCAConfig(patch=8, components=24), [video])
    error = (autoencoder.decode(autoencoder.encode(video)) - video).square().mean()
    assert error < 0.01 * video.var()


@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
def test_latents_have_unit_variance(whitening: float) -> None:
    video = smooth_video()
    autoencoder = fit_patch_pca(PatchPCAConfig(patch=4, components=8, whitening=whitening), [video])
    variance = autoencoder.encode(video).var(dim=(0, 2, 3, 4), correction=0)
    assert variance.mean().item() == pytest.approx(1.0, rel=1e-3)
    spread = (variance.max() / variance.min()).item()
    assert spread == pytest.approx(1.0, rel=1e-2) if whitening == 1.0 else spread > 2


def test_the_fit_does_not_depend_on_the_batching() -> None:
    video = smooth_video()
    config = PatchPCAConfig(patch=4, components=8)
    whole, halves = fit_patch_pca(config, [video]), fit_patch_pca(config, video.split(1))
    torch.testing.assert_close(whole.basis, halves.basis)


def test_odd_pixels_are_left_out() -> None:
    autoencoder = fit_patch_pca(PatchPCAConfig(patch=8, components=4), [smooth_video()])
    assert autoencoder.encode(smooth_video()[..., :30, :29]).shape[-2:] == (3, 3)


def test_nothing_to_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="no frame"):
        fit_patch_pca(PatchPCAConfig(), [])


def test_nonsense_configs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"components must be in 1\.\.48"):
        PatchPCAConfig(patch=4, components=49)
    with pytest.raises(ValueError, match="multiple of heads"):
        WordTextConfig(width=10, heads=4)


def encoder(max_tokens: int = 8) -> WordTextEncoder:
    torch.manual_seed(0)
    vocabulary = build_vocabulary(["A red star moves left,", "a blue star"])
    return WordTextEncoder(WordTextConfig(width=16, heads=2, max_tokens=max_tokens), vocabulary)


def test_vocabulary_is_sorted_and_lower_case() -> None:
    assert build_vocabulary(["The dog's ball", "2 dogs, the end"]) == (
        "2",
        "ball",
        "dog's",
        "dogs",
        "end",
        "the",
    )


def test_padding_does_not_change_a_caption() -> None:
    text = encoder()
    alone = text.encode(["a red star"])
    beside = text.encode(["a red star", "a red star moves left"])
    torch.testing.assert_close(alone.tokens[0, :4], beside.tokens[0, :4])
    assert alone.mask.sum() == 4


def test_word_order_changes_the_tokens() -> None:
    text = encoder()
    first, second = text.encode(["red left star", "left red star"]).tokens
    assert not torch.allclose(first[3], second[3])


def test_an_empty_caption_has_one_token() -> None:
    assert encoder().encode([""]).mask.sum() == 1


def test_unknown_words_are_named_once() -> None:
    assert encoder().unknown_words("a purple star, a purple Comet") == ["purple", "comet"]


def test_words_past_the_limit_are_named() -> None:
    assert encoder(max_tokens=3).unknown_words("red star left") == ["left"]


def test_gradients_reach_the_embeddings() -> None:
    text = encoder()
    target = repeat(torch.arange(16.0), "d -> 1 l d", l=8)
    (text.encode(["a red star"]).tokens * target).sum().backward()
    gradient = text.embedding.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0
