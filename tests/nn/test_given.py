from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kinema.nn import STDiT2
from kinema.nn.given import blend_of_given, take_given
from kinema.nn.growing import fill_grown

from .test_stdit2 import SMALL, TIMES, conditioning, latents, trained

KEEPS = replace(SMALL, learned_variance=False, keeps_given=True)
MASK = torch.tensor([[False, True, True, True], [True, True, True, True]])


@pytest.mark.parametrize(
    ("denoised", "seen"),
    [
        ([False, True, True, False, True, True], [0, 3, 6, 9, 9, 9]),
        ([True, True, False, True, True, True], [4, 4, 4, 4, 4, 4]),
        ([False, True, False, True, True, False], [0, 2, 4, 11, 18, 25]),
    ],
)
def test_between_given_frames_lies_their_blend_and_beside_them_the_nearest(denoised, seen):
    squares = torch.arange(6.0).square()[None, None, :, None, None].expand(1, 2, 6, 1, 3)
    blended = blend_of_given(squares, torch.tensor([denoised]))
    torch.testing.assert_close(
        blended, torch.tensor(seen).float()[None, None, :, None, None].expand(1, 2, 6, 1, 3)
    )


def test_an_open_gate_takes_the_blend_where_something_is_given_and_only_there():
    made, given = latents(seed=1), latents(seed=2)
    open_gate = torch.full((2, 1, 4, 6, 8), 50.0)
    taken = take_given(made, open_gate, given, MASK)
    torch.testing.assert_close(taken[0], given[0, :, :1].expand(-1, 4, -1, -1))
    torch.testing.assert_close(taken[1], made[1])
    assert take_given(made, open_gate, given, None) is made
    torch.testing.assert_close(take_given(made, -open_gate, given, MASK), made)


def test_a_network_learns_to_keep_what_rests():
    network = STDiT2(KEEPS)
    still = latents(frames=1).expand(-1, -1, 4, -1, -1)
    noised = torch.where(MASK[:, None, :, None, None], latents(seed=3), still)
    error = (network(noised, TIMES, conditioning(), MASK) - still)[0].square().mean()
    error.backward()
    gate = network.final_layer.given_gate.linear
    assert gate.bias.grad.min() < 0
    assert gate.bias.grad.max() <= 0


def test_a_network_without_the_gate_grows_one_that_is_nearly_shut():
    before, after = trained(replace(KEEPS, keeps_given=False)), STDiT2(KEEPS).eval()
    fill_grown(after, before.state_dict(), "before")
    for mask, worst in ((None, 1e-6), (MASK, 0.5)):
        made, grown = (net(latents(), TIMES, conditioning(), mask) for net in (before, after))
        assert (made - grown).abs().max() <= worst
    torch.testing.assert_close(made[1], grown[1])
    assert not torch.equal(made[0], grown[0])


def test_odd_sizes_and_patches_that_span_frames_pass_the_gate():
    network = trained(replace(KEEPS, patch_size=(2, 2, 2)))
    mask = torch.tensor([[False, True, True], [True, True, True]])
    assert network(latents(2, 3, 5, 7), TIMES, conditioning(), mask).shape == (2, 4, 3, 5, 7)


def test_a_gate_needs_clean_latents():
    with pytest.raises(ValueError, match="learned_variance"):
        replace(SMALL, keeps_given=True)
