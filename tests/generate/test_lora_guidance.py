"""Guidance away from the model without its LoRAs: what is pushed, when, and what it costs in memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from kinema.cli import main
from kinema.diffusion.guidance import guided_by, in_first_half
from kinema.diffusion.protocols import Denoised
from kinema.errors import ConfigError
from kinema.generate.config import GenerateConfig
from kinema.generate.loading import ready_model
from kinema.generate.pipeline import generate
from kinema.lora import write_lora
from kinema.model import load_model
from kinema.nn.lora import LoRAConfig, new_lora
from kinema.progress import Silent


@pytest.fixture(scope="module")
def lora(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that changes what the network makes."""
    torch.manual_seed(0)
    made = new_lora(load_model(model).network, LoRAConfig(rank=2))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    folder = tmp_path_factory.mktemp("lora") / "lora"
    write_lora(folder, made, part="transformer")
    return folder


def asked(lora: Path, scale: float, steps: int = 4) -> GenerateConfig:
    return GenerateConfig(
        prompt="a white square", steps=steps, sampler="ddim", lora=(str(lora),), lora_guidance=scale
    )


def test_it_pushes_while_there_is_much_noise() -> None:
    latents = torch.zeros(2, 1, 3, 1, 1)

    def constant(value: float):
        return lambda latents, sigma: Denoised(torch.full_like(latents, value))

    sigmas = torch.tensor([80.0, 5.0, 0.1])
    pushed = in_first_half(sigmas, guided_by(constant(2.0), constant(1.5), 4.0), constant(2.0))
    for sigma, expected in ((80.0, 3.5), (5.0, 2.0), (0.1, 2.0)):
        assert (pushed(latents, torch.full((2, 3), sigma)).clean == expected).all()
    given = torch.tensor([[0.0, 80.0, 80.0]]).expand(2, 3)
    assert (pushed(latents, given).clean == 3.5).all()


def test_beside_the_model_are_the_replaced_weights_alone(model: Path, lora: Path) -> None:
    ready, _ = ready_model(model, asked(lora, 3.0))
    plain = load_model(model).network.state_dict()
    without, merged = ready.without_lora, ready.network
    assert without is not None
    touched = set()
    for name, weight in without.state_dict().items():
        assert torch.equal(weight, plain[name])
        if weight.data_ptr() != merged.state_dict()[name].data_ptr():
            assert not torch.equal(weight, merged.state_dict()[name])
            touched.add(name)
    assert touched
    assert all("attn_temp" in name for name in touched)
    assert ready_model(model, asked(lora, 1.0))[0].without_lora is None


@pytest.mark.parametrize(("steps", "pushed"), [(1, 1), (4, 2), (5, 3)])
def test_the_first_half_of_the_steps_is_pushed(
    model: Path, lora: Path, tmp_path: Path, steps: int, pushed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def watched(folder: Path, config: GenerateConfig):
        ready, facts = ready_model(folder, config)
        ready.without_lora.register_forward_hook(lambda *_: calls.append(1))
        return ready, facts

    monkeypatch.setattr("kinema.generate.pipeline.ready_model", watched)
    record = generate(model, asked(lora, 3.0, steps), tmp_path / "a.png", Silent())
    assert len(calls) == pushed
    assert record["lora_guidance"] == record["request"]["lora_guidance"] == 3.0


def test_it_changes_the_video(model: Path, lora: Path, tmp_path: Path) -> None:
    made = {
        scale: generate(model, asked(lora, scale), tmp_path / f"{scale}.mp4", Silent())
        for scale in (1.0, 3.0)
    }
    assert made[1.0]["latents_sha256"] != made[3.0]["latents_sha256"]
    assert "lora_guidance" not in made[1.0]


def test_the_command_has_it(model: Path, lora: Path, tmp_path: Path) -> None:
    flags = ["--model", str(model), "--prompt", "a square", "--steps", "2", "--out", str(tmp_path / "a.mp4")]
    assert main(["generate", *flags, "--lora", str(lora), "--lora-guidance", "5"]) == 0
    record = json.loads((tmp_path / "a.mp4.json").read_text())
    assert record["lora_guidance"] == 5
    assert main(["generate", *flags, "--lora-guidance", "5"]) == 2


@pytest.mark.parametrize(
    ("lora", "scale", "message"),
    [((), 3.0, "name a lora"), (("a",), 0.0, "must be above 0, got 0; 1 is off")],
)
def test_what_makes_no_sense_is_refused(lora: tuple[str, ...], scale: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GenerateConfig(prompt="a square", lora=lora, lora_guidance=scale)
