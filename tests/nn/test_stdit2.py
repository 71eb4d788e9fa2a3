from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kinema.nn import Conditioning, STDiT2, STDiT2Config, build_network, cat_conditioning
from kinema.nn.growing import fill_grown

SMALL = STDiT2Config(depth=2, hidden=48, heads=4, caption_channels=16, max_tokens=6, input_sq_size=64)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def conditioning(batch=2, length=6, **changes):
    facts = {"height": 64.0, "width": 96.0, "aspect_ratio": 0.67, "frames": 4.0, "fps": 8.0}
    columns = {name: torch.full((batch,), value) for name, value in (facts | changes).items()}
    tokens = torch.randn(batch, length, 16, generator=seeded(1))
    return Conditioning(tokens=tokens, **columns)


def trained(config=SMALL):
    """A network whose zero-initialised parts have been moved, so that everything matters."""
    torch.manual_seed(0)
    network = STDiT2(config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.requires_grad and not parameter.any():
                parameter.add_(torch.randn(parameter.shape, generator=seeded(len(name))) * 0.1)
    return network.eval()


def latents(batch=2, frames=4, height=6, width=8, seed=0):
    return torch.randn(batch, 4, frames, height, width, generator=seeded(seed))


TIMES = torch.tensor([500, 20])


@pytest.mark.parametrize("learned_variance", [True, False])
@pytest.mark.parametrize(("frames", "height", "width"), [(1, 2, 2), (4, 6, 8), (3, 7, 5), (2, 1, 1)])
def test_any_size_comes_back_in_its_own_shape(learned_variance, frames, height, width):
    network = STDiT2(replace(SMALL, learned_variance=learned_variance))
    out = network(latents(2, frames, height, width), TIMES, conditioning())
    assert out.shape == (2, 8 if learned_variance else 4, frames, height, width)
    assert out.dtype == torch.float32


def test_patches_that_span_frames_pad_time():
    network = trained(replace(SMALL, patch_size=(2, 2, 2)))
    mask = torch.tensor([[False, True, True], [True, True, False]])
    assert network(latents(2, 3, 5, 7), TIMES, conditioning(), mask).shape == (2, 8, 3, 5, 7)


def test_a_new_network_answers_zero_and_ignores_time_and_text():
    network = STDiT2(SMALL)
    assert not network(latents(), TIMES, conditioning()).any()
    for block in network.blocks:
        assert not block.attn_temp.proj.weight.any()
        assert not block.cross_attn.proj.weight.any()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"modulate_by_caption": True},
        {"keeps_given": True, "learned_variance": False},
        {"frame_times": True},
    ],
)
@pytest.mark.parametrize("given", [False, True])
def test_captions_of_the_same_latents_share_what_comes_before_them(changes, given):
    network, told = trained(replace(SMALL, **changes)), conditioning()
    both = cat_conditioning([told, told.with_caption(network.null_tokens(6))])
    mask = torch.tensor([[False, True, True, True], [True, True, True, False]]) if given else None
    doubled = None if mask is None else mask.repeat(2, 1)
    expected = network(latents().repeat(2, 1, 1, 1, 1), TIMES.repeat(2), both, doubled)
    assert torch.allclose(network(latents(), TIMES, both, mask), expected, atol=1e-5)


def test_conditioning_of_other_rows_is_refused():
    with pytest.raises(ValueError, match="3 rows of conditioning are no whole times the 2 of the latents"):
        trained()(latents(), TIMES, conditioning(3))


def test_elements_of_a_batch_do_not_touch_each_other():
    network, mask = trained(), torch.tensor([[False, True, True, True], [True, True, True, True]])
    whole = network(latents(), TIMES, conditioning(), mask)
    alone = conditioning()._map(lambda value: value[1:])
    torch.testing.assert_close(network(latents()[1:], TIMES[1:], alone, mask[1:]), whole[1:])


def test_each_element_has_its_own_position_scale():
    network = trained()
    large = conditioning(1, height=128.0, width=128.0)
    pair = cat_conditioning([conditioning(1), large])
    x = latents(1).repeat(2, 1, 1, 1, 1)
    alone = network(x[1:], TIMES[1:], large)
    torch.testing.assert_close(network(x, TIMES, pair)[1:], alone)
    shared = trained(replace(SMALL, shared_position_scale=True))
    assert not torch.allclose(shared(x, TIMES, pair)[1:], alone, atol=1e-4)


def test_masked_words_change_nothing():
    network = trained()
    mask = torch.tensor([[True, True, False, False, False, False], [True] * 6])
    told = replace(conditioning(), token_mask=mask)
    noisy = replace(told, tokens=torch.where(mask[..., None], told.tokens, 7.0))
    torch.testing.assert_close(network(latents(), TIMES, told), network(latents(), TIMES, noisy))
    assert not torch.allclose(
        network(latents(), TIMES, told), network(latents(), TIMES, conditioning()), atol=1e-4
    )


def test_the_order_of_words_does_not_matter_but_of_frames_does():
    network, told = trained(), conditioning()
    out = network(latents(), TIMES, told)
    shuffled = replace(told, tokens=told.tokens.flip(1))
    torch.testing.assert_close(network(latents(), TIMES, shuffled), out, rtol=1e-4, atol=1e-5)
    reversed_out = network(latents().flip(2), TIMES, told).flip(2)
    assert not torch.allclose(reversed_out, out, atol=1e-3)


def test_an_all_true_mask_is_no_mask():
    network = trained()
    mask = torch.ones(2, 4, dtype=torch.bool)
    torch.testing.assert_close(
        network(latents(), TIMES, conditioning(), mask), network(latents(), TIMES, conditioning())
    )


def test_a_clip_given_whole_is_at_timestep_zero():
    network = trained()
    given = network(latents(), TIMES, conditioning(), torch.zeros(2, 4, dtype=torch.bool))
    torch.testing.assert_close(given, network(latents(), torch.zeros(2), conditioning()))


@pytest.mark.parametrize("name", ["height", "width", "aspect_ratio", "frames", "fps"])
def test_every_fact_reaches_the_output(name):
    network = trained()
    told, other = conditioning(), conditioning(**{name: 3.0})
    assert not torch.allclose(network(latents(), TIMES, told), network(latents(), TIMES, other), atol=1e-4)


def test_gradient_reaches_every_parameter_but_the_rotation():
    network = trained().train()
    network(
        latents(), TIMES, conditioning(), torch.tensor([[False, True, True, True]] * 2)
    ).square().mean().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == ["rope.freqs"]


def test_a_new_network_learns_its_last_layer_first():
    network = STDiT2(SMALL)
    (network(latents(), TIMES, conditioning()) - 1).square().mean().backward()
    with_gradient = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert with_gradient == {"final_layer.linear.weight", "final_layer.linear.bias"}


def test_gradient_checkpointing_gives_the_same_gradients():
    plain, frugal = trained().train(), trained().train()
    frugal.gradient_checkpointing = True
    for network in (plain, frugal):
        network(latents(), TIMES, conditioning()).square().mean().backward()
    for first, second in zip(plain.parameters(), frugal.parameters(), strict=True):
        assert (first.grad is None) == (second.grad is None)
        assert first.grad is None or torch.equal(first.grad, second.grad)


def test_bfloat16_keeps_timesteps_and_rotation_apart():
    network = trained().to(torch.bfloat16)
    assert network.rope.freqs.dtype == torch.float32
    near = network(latents(), torch.tensor([998.0, 998.0]), conditioning())
    far = network(latents(), torch.tensor([999.0, 999.0]), conditioning())
    assert near.dtype == torch.float32
    assert not torch.equal(near, far)


def test_null_tokens_are_the_null_caption_cut_to_length():
    network = STDiT2(SMALL)
    assert torch.equal(network.null_tokens(4), network.y_embedder.y_embedding[:4])
    told = conditioning().with_caption(network.null_tokens(6), torch.tensor([True, False]))
    assert torch.equal(told.tokens[0], network.null_tokens(6))
    assert torch.equal(told.tokens[1], conditioning().tokens[1])


@pytest.mark.parametrize(
    "change", [{"hidden": 50}, {"heads": 5}, {"caption_drop": 2.0}, {"depth": 0}, {"patch_size": (1, 0, 2)}]
)
def test_nonsense_sizes_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(SMALL, **change)


def test_build_network():
    assert isinstance(build_network(SMALL), STDiT2)


def seen_from(network, change):
    """Where the output moves when one value of the latents does: frames by patches."""
    first = latents(1)
    moved = first.clone()
    moved[0, :, change[0], change[1], change[2]] += 1
    with torch.no_grad():
        told = conditioning(1)
        difference = (network(moved, TIMES[:1], told) - network(first, TIMES[:1], told)).abs()
    return difference[0].amax(0).flatten(1).amax(1) > 0, difference[0].amax((0, 1)) > 0


def test_joint_time_sees_other_places_of_other_frames_in_one_layer():
    plain = trained(replace(SMALL, depth=1))
    with torch.no_grad():
        plain.blocks[0].attn.proj.weight.zero_()  # what is left mixes along time alone
    joint = trained(replace(SMALL, depth=1, joint_time=True))
    joint.load_state_dict(plain.state_dict())
    frames, places = seen_from(plain, (0, 0, 0))
    assert frames.all()
    assert places[:2, :2].all()
    assert places.sum() == 4
    frames, places = seen_from(joint, (0, 0, 0))
    assert frames.all()
    assert places.all()


def test_joint_time_and_frame_times_take_any_size_and_a_patch_that_spans_frames():
    network = trained(replace(SMALL, joint_time=True, frame_times=True, patch_size=(2, 2, 2)))
    mask = torch.tensor([[False, True, True], [True, True, False]])
    assert network(latents(2, 3, 5, 7), TIMES, conditioning(), mask).shape == (2, 8, 3, 5, 7)


def test_frame_times_tell_frames_apart_and_rates_alike():
    """Without them, equal frames stay equal; with them, frame 2 at 8 frames a second is frame 1 at 4."""
    still = latents(1, frames=1).expand(-1, -1, 4, -1, -1)
    plain, told = trained(), trained(replace(SMALL, frame_times=True))
    with torch.no_grad():
        same = plain(still, TIMES[:1], conditioning(1))
        apart = told(still, TIMES[:1], conditioning(1))
    assert torch.allclose(same[:, :, 0], same[:, :, 1], atol=1e-5)
    assert not torch.allclose(apart[:, :, 0], apart[:, :, 1], atol=1e-3)
    times = told.frame_embedder
    assert not torch.equal(times.of(torch.tensor([[0.25]])), times.of(torch.tensor([[0.5]])))


@pytest.mark.parametrize("frames", [4, 16])
def test_joint_time_and_frame_times_take_equal_seconds_for_equal(frames):
    """Every second frame at half the rate is told and turned as it is at the whole rate."""
    network = trained(replace(SMALL, joint_time=True, frame_times=True))
    whole, half = conditioning(1, fps=8.0), conditioning(1, fps=4.0)
    dense, sparse = latents(1, frames), latents(1, frames)[:, :, ::2]
    for of in (network._angles, lambda shown, told: [network._frame_times(shown.shape[2], told)]):
        for every, second in zip(of(dense, whole), of(sparse, half), strict=True):
            per_frame = every.unflatten(1, (frames, -1))[:, ::2].flatten(1, 2)
            assert torch.allclose(per_frame, second, atol=1e-6)


def test_frame_times_start_at_nothing_on_other_weights():
    before, after = trained(), STDiT2(replace(SMALL, frame_times=True))
    fill_grown(after, before.state_dict(), "weights")
    with torch.no_grad():
        expected = before(latents(), TIMES, conditioning())
        assert torch.allclose(after(latents(), TIMES, conditioning()), expected, atol=1e-6)


def test_joint_time_refuses_shared_tokens():
    with pytest.raises(ValueError, match=r"joint_time.*parallel\.sequence"):
        STDiT2(replace(SMALL, joint_time=True)).share_tokens(object())
