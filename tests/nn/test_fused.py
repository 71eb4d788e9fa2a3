"""The fused forms against the plain ones, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kinema.nn import fused, fused_attention, products
from kinema.nn.attention import CrossAttention, SelfAttention
from kinema.nn.layers import Mlp, RotaryEmbedding, place_angles
from kinema.nn.stdit2 import add_gated, modulate

FRAMES, PLACES, WIDTH, HEADS = 5, 70, 24, 3


@pytest.fixture(params=["kernel", "products", "oneDNN"])
def way(request, monkeypatch):
    """How attention is computed: by the fused kernel, or by products of many matrices or of one at a time."""
    monkeypatch.setattr(fused_attention, "products_pay", lambda *_: request.param != "kernel")
    if request.param == "oneDNN":
        if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
            pytest.skip("this PyTorch has no oneDNN")
        monkeypatch.setattr(products, "ONEDNN_IS_FASTER", True)
        monkeypatch.setattr(products, "_SMALLEST", 1)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def both(function, inputs, monkeypatch, dtype=torch.float32):
    """Output and gradients of the fused form, then of the plain one."""
    results = []
    for use in (True, False):
        monkeypatch.setattr(fused, "applies", lambda _, use=use: use)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            out = function(*inputs)
        weights = torch.arange(out.numel()).reshape(out.shape).sin().to(out.dtype)
        results.append([out, *torch.autograd.grad((out * weights).sum(), inputs)])
    return zip(*results, strict=True)


@pytest.mark.parametrize("vectors", [1, FRAMES])
@pytest.mark.parametrize("clips", [1, 2])
def test_modulation_and_gates(vectors, clips, monkeypatch):
    inputs = [normal(clips, FRAMES, PLACES, WIDTH)]
    inputs += [normal(clips, vectors, 1, WIDTH, seed=seed) for seed in (1, 2)]
    for fast, plain in both(modulate, inputs, monkeypatch):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4)
    inputs = [inputs[0], inputs[1], normal(clips, FRAMES, PLACES, WIDTH, seed=3)]
    for fast, plain in both(add_gated, inputs, monkeypatch):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("along_time", [False, True])
@pytest.mark.parametrize(("qk_norm", "rope_first"), [(True, False), (True, True), (False, False)])
@pytest.mark.parametrize("in_cache", [2**19, 2**11])
@pytest.mark.usefixtures("way")
def test_self_attention(along_time, qk_norm, rope_first, in_cache, monkeypatch):
    monkeypatch.setattr(fused_attention, "_SCORES_IN_CACHE", in_cache)
    torch.manual_seed(0)
    module = SelfAttention(WIDTH, HEADS, qk_norm=qk_norm, rope_first=rope_first)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    angles = RotaryEmbedding(WIDTH // HEADS)(FRAMES) if along_time else None
    inputs = [normal(2, FRAMES, PLACES, WIDTH), *module.parameters()]
    for fast, plain in both(lambda tokens, *_: module(tokens, angles), inputs, monkeypatch):
        torch.testing.assert_close(fast, plain, rtol=1e-3, atol=2e-3)


@pytest.mark.usefixtures("way")
def test_self_attention_turned_by_places(monkeypatch):
    torch.manual_seed(0)
    module = SelfAttention(WIDTH, HEADS, qk_norm=True, rope_first=False)
    places = place_angles(PLACES, 1, WIDTH // HEADS, torch.device("cpu"))
    inputs = [normal(2, FRAMES, PLACES, WIDTH), *module.parameters()]
    for fast, plain in both(lambda tokens, *_: module(tokens, None, places), inputs, monkeypatch):
        torch.testing.assert_close(fast, plain, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("in_cache", [2**19, 2**11])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.usefixtures("way")
def test_cross_attention(masked, in_cache, monkeypatch):
    monkeypatch.setattr(fused_attention, "_SCORES_IN_CACHE", in_cache)
    torch.manual_seed(0)
    module = CrossAttention(WIDTH, HEADS)
    mask = torch.tensor([[True] * 6, [True, True, False, False, False, False]])[:, None, None]
    inputs = [normal(2, FRAMES, PLACES, WIDTH), normal(2, 6, WIDTH, seed=1), *module.parameters()]

    def attend(tokens, words, *_):
        return module(tokens, module.keys_values(words), mask if masked else None)

    for fast, plain in both(attend, inputs, monkeypatch):
        torch.testing.assert_close(fast, plain, rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("in_cache", [2**21, 2**9])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3)])
def test_feed_forward(shape, in_cache, monkeypatch):
    monkeypatch.setattr(fused, "_HIDDEN_IN_CACHE", in_cache)
    torch.manual_seed(0)
    module = Mlp(WIDTH, 4 * WIDTH, WIDTH)
    inputs = [normal(*shape, PLACES, WIDTH), *module.parameters()]
    for fast, plain in both(lambda tokens, *_: module(tokens), inputs, monkeypatch):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        fast = module(inputs[0])
        monkeypatch.setattr(fused, "applies", lambda _: True)
        torch.testing.assert_close(module(inputs[0]), fast)
    for value, (rough, plain) in zip(
        [plain for _, plain in both(lambda tokens, *_: module(tokens), inputs, monkeypatch)],
        both(lambda tokens, *_: module(tokens), inputs, monkeypatch, torch.bfloat16),
        strict=True,
    ):
        assert (rough - value).norm() < 1.2 * (plain - value).norm() + 1e-3 * value.norm()


@pytest.mark.parametrize("along_time", [False, True])
@pytest.mark.usefixtures("way")
def test_bf16_is_as_close_to_float32_as_the_plain_form(along_time, monkeypatch):
    torch.manual_seed(0)
    module = SelfAttention(WIDTH, HEADS, qk_norm=True, rope_first=False)
    angles = RotaryEmbedding(WIDTH // HEADS)(FRAMES) if along_time else None
    inputs = [normal(1, FRAMES, PLACES, WIDTH), *module.parameters()]
    exact = [value for value, _ in both(lambda tokens, *_: module(tokens, angles), inputs, monkeypatch)]
    rough = both(lambda tokens, *_: module(tokens, angles), inputs, monkeypatch, torch.bfloat16)
    for value, (fast, plain) in zip(exact, rough, strict=True):
        assert (fast - value).norm() < 1.5 * (plain - value).norm() + 0.01 * value.norm()


def test_less_is_kept_for_the_backward_pass(monkeypatch):
    torch.manual_seed(0)
    module = SelfAttention(WIDTH, HEADS, qk_norm=True, rope_first=False)
    tokens = normal(1, FRAMES, PLACES, WIDTH)
    kept = []
    for use in (True, False):
        monkeypatch.setattr(fused, "applies", lambda _, use=use: use)
        sizes = {}

        def note(tensor, sizes=sizes):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            module(tokens, None)
        kept.append(sum(sizes.values()))
    assert kept[0] < 0.75 * kept[1]


@pytest.mark.parametrize("learns", ["nothing", "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"])
def test_feed_forward_with_frozen_parts(learns, monkeypatch):
    torch.manual_seed(0)
    module = Mlp(WIDTH, 4 * WIDTH, WIDTH)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name == learns)
    inputs = [normal(1, 2, PLACES, WIDTH), *(part for part in module.parameters() if part.requires_grad)]
    for fast, plain in both(lambda tokens, *_: module(tokens), inputs, monkeypatch):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4)
    frozen = normal(1, 2, PLACES, WIDTH).detach()
    for fast, plain in both(lambda *_: module(frozen), inputs[1:], monkeypatch) if inputs[1:] else ():
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4)
