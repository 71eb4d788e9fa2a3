"""The network against outputs of the published implementation."""

from __future__ import annotations

import math

import pytest
import torch

from kinema.nn import Conditioning, STDiT2, STDiT2Config, fused

NETWORKS = ["stdit2_small_qknorm", "stdit2_small_noqknorm"]


@pytest.fixture(autouse=True, params=[0, fused.SMALLEST], ids=["fused", "plain"])
def _form(request, monkeypatch):
    """Both forms of the blocks, whatever the size."""
    monkeypatch.setattr(fused, "SMALLEST", request.param)


def inputs(fixture, case):
    given = fixture.under(f"in.{case}.")
    mask = given.get("mask")
    if mask is not None:
        mask = mask.repeat(len(given["y"]) // len(mask), 1).bool()
    conditioning = Conditioning(
        tokens=given["y"][:, 0],
        token_mask=mask,
        height=given["height"],
        width=given["width"],
        aspect_ratio=given["ar"],
        frames=given["num_frames"],
        fps=given["fps"],
    )
    return given["x"], given["timestep"], conditioning, given.get("x_mask")


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs(read, build_published, name):
    fixture = read(f"opensora/{name}")
    network = build_published(fixture)
    with torch.no_grad():
        for case in fixture.facts["cases"]:
            fixture.check(network(*inputs(fixture, case)), f"out.{case}")


def test_outputs_in_the_corrected_order(read, build_published):
    outputs = read("opensora/stdit2_small_qknorm_v12order_outputs")
    weights = read("opensora/stdit2_small_qknorm")
    network = build_published(weights, rope_first=False)
    with torch.no_grad():
        for case in outputs.facts["cases"]:
            outputs.check(network(*inputs(weights, case)), f"out.{case}")


@pytest.mark.parametrize("name", NETWORKS)
def test_text_computed_ahead_changes_nothing(read, build_published, name):
    fixture = read(f"opensora/{name}")
    network = build_published(fixture)
    with torch.no_grad():
        for case in fixture.facts["cases"]:
            latents, timestep, conditioning, denoise_mask = inputs(fixture, case)
            text = network.text_keys_values(conditioning.tokens)
            fixture.check(network(latents, timestep, conditioning, denoise_mask, text), f"out.{case}")


@pytest.mark.parametrize(
    ("name", "order"),
    [(name, name) for name in NETWORKS] + [(NETWORKS[0], f"{NETWORKS[0]}_v12order_outputs")],
)
def test_gradients(read, build_published, name, order):
    facts = read(f"opensora/{order}").facts["grad_check"]
    fixture = read(f"opensora/{name}")
    network = build_published(fixture, rope_first=name == order)
    out = network(*inputs(fixture, facts["case"]))
    loss = (out * torch.arange(out.numel()).reshape(out.shape).sin()).mean()
    loss.backward()
    assert loss.item() == pytest.approx(facts["loss"], rel=1e-4, abs=1e-6)
    parameters = dict(network.named_parameters())
    assert parameters.keys() == facts["grad_l2"].keys()
    for key, norm in facts["grad_l2"].items():
        gradient = parameters[key].grad
        assert (gradient is None) == (norm is None), key
        if gradient is not None:
            assert gradient.norm().item() == pytest.approx(norm, rel=1e-4, abs=1e-6), key


@pytest.mark.parametrize("name", NETWORKS)
def test_activations(read, build_published, name):
    fixture = read(f"opensora/{name}")
    network = build_published(fixture)
    cases = {key.split(".")[1] for key in fixture.tensors if key.startswith("mid.")}
    for case in sorted(cases):
        got = activations(network, *inputs(fixture, case))
        expected = fixture.under(f"mid.{case}.")
        assert expected.keys() <= got.keys(), f"unknown activation in {expected.keys() - got.keys()}"
        for key, tensor in expected.items():
            fixture.check_values(got[key].reshape(tensor.shape), tensor, f"mid.{case}.{key}")


@torch.no_grad()
def activations(network, latents, timestep, conditioning, denoise_mask):
    """The named intermediate values, in the layouts of the fixtures."""
    seen = {}
    hooks = [module.register_forward_hook(_keep(seen, name)) for name, module in network.named_modules()]
    network(latents, timestep, conditioning, denoise_mask)
    for hook in hooks:
        hook.remove()
    words, mask = seen["y_embedder"][0], conditioning.token_mask
    over_time = seen["blocks.0.attn_temp"][0]
    named = {
        "patch_embed": seen["x_embedder"][0],
        "pos_emb": network.positions(latents, conditioning),
        "t_emb": seen["t_embedder"][0],
        "t0_emb": seen["t_embedder"][-1],
        "csize": torch.cat(seen["csize_embedder"], dim=1),
        "ar_emb": seen["ar_embedder"][0],
        "fl_emb": seen["fl_embedder"][0],
        "fps_emb": seen["fps_embedder"][0],
        "t_spc_mlp": seen["t_block"][0],
        "t_tmp_mlp": seen["t_block_temp"][0],
        "y_packed": words if mask is None else words[mask],
        "block0_spatial_attn_out": seen["blocks.0.attn"][0],
        "block0_temporal_attn_out": over_time.transpose(1, 2),
        "block0_cross_attn_out": seen["blocks.0.cross_attn"][0],
        "block0_in": seen["x_embedder"][0] + network.positions(latents, conditioning)[:, None],
        "final_tokens": seen["final_layer"][0],
    }
    return named | {f"block{i}_out": seen[f"blocks.{i}"][0] for i in range(network.config.depth)}


def _keep(seen, name):
    def hook(module, args, output):
        seen.setdefault(name, []).append(output)

    return hook


@pytest.mark.parametrize("qk_norm", [True, False])
def test_keys_and_shapes_of_xl2(read, qk_norm):
    facts = read("opensora/stdit2_xl2_keys").facts
    config = STDiT2Config.xl2()
    if not qk_norm:
        config = STDiT2Config(**{**vars(config), "qk_norm": False})
    with torch.device("meta"):
        network = STDiT2(config)
    counts = facts[f"qk_norm={qk_norm}"]
    state = {key: list(value.shape) for key, value in network.state_dict().items()}
    assert len(state) == counts["n_keys"]
    shapes = {key: shape for key, shape in counts["shapes"].items() if not key.startswith("_")}
    assert all(state[key] == shape for key, shape in shapes.items())
    assert not shapes or state.keys() == shapes.keys()
    parameters = dict(network.named_parameters())
    assert sum(p.numel() for p in parameters.values()) == counts["n_parameters"]
    assert sum(p.numel() for p in parameters.values() if p.requires_grad) == counts["n_trainable"]
    assert [key for key, p in parameters.items() if not p.requires_grad] == counts["not_trainable"]
    buffers = [key for key in state if key not in parameters]
    assert buffers == counts.get("buffers_in_state", buffers)
    assert sum(math.prod(state[key]) for key in buffers) == counts["n_buffer_elems"]
