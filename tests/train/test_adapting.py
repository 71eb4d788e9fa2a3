"""LoRA as a training mode, for both networks: what learns, what is written, going on, and using it."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kinema.cli import main
from kinema.config import load_config
from kinema.errors import CheckpointError, ConfigError, Interrupted
from kinema.generate.pipeline import GenerateConfig, generate
from kinema.lora import read_lora
from kinema.model import load_model
from kinema.nn.lora import LoRAConfig, merge
from kinema.progress import Silent
from kinema.train.checkpoints import latest_checkpoint
from kinema.train.config import PreviewConfig, TrainConfig
from kinema.train.loop import train
from kinema.train.optim import AdamWConfig, MuonConfig

STEPS = 4


class StopsAfterTwo:
    """A progress that raises what Ctrl-C does."""

    def __init__(self) -> None:
        self.done = 0

    def stage(self, name: str, total: int | None = None) -> None:
        self.done = 0

    def line(self, text: str) -> None: ...

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.done += steps
        if self.done == 2 and steps:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module", params=["small_run", "small_unet_run"])
def base(request: pytest.FixtureRequest, squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model of three steps and the config of its run."""
    config = replace(request.getfixturevalue(request.param), steps=3)
    folder = tmp_path_factory.mktemp("base") / "run"
    train(config, squares, folder)
    return folder, config


def adapting(base: tuple[Path, TrainConfig], **changes: Any) -> TrainConfig:
    folder, config = base
    settings: dict[str, Any] = {
        "start_from": folder,
        "lora": LoRAConfig(rank=4),
        "steps": STEPS,
        "optim": AdamWConfig(lr=5e-3),
    }
    return replace(config, **(settings | changes))


def remembered(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    checkpoint = latest_checkpoint(run / "checkpoints")
    assert checkpoint is not None
    return checkpoint.groups


def test_only_the_additions_learn_and_are_kept(base: Any, squares: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in base[0].rglob("*.safetensors")}
    summary = train(adapting(base), squares, tmp_path / "run")
    assert {path: path.read_bytes() for path in before} == before
    network = load_model(base[0]).network
    lora = read_lora(tmp_path / "run", network)
    assert summary["parameters"] == sum(parameter.numel() for parameter in lora.parameters())
    groups = remembered(tmp_path / "run")
    assert set(groups) == {"lora", "ema_lora", "optimizer"}
    # What is written is the average.
    for name, value in lora.state_dict().items():
        assert torch.equal(value, groups["ema_lora"][name])
    assert any(value.any() for name, value in groups["lora"].items() if "lora_B" in name)
    assert not (tmp_path / "run/model.toml").exists()
    with pytest.raises(CheckpointError, match="holds a LoRA; name the model"):
        load_model(tmp_path / "run")


@pytest.mark.parametrize("optim", [AdamWConfig(lr=5e-3), MuonConfig()], ids=["adamw", "muon"])
def test_halves_are_the_whole_bit_for_bit(base: Any, squares: Path, tmp_path: Path, optim: Any) -> None:
    config = adapting(base, optim=optim)
    train(config, squares, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(config, squares, tmp_path / "halves", progress=StopsAfterTwo())
    assert train(config, squares, tmp_path / "halves", resume=True)["resumed_from"] == 2
    whole, halves = remembered(tmp_path / "whole"), remembered(tmp_path / "halves")
    for group, tensors in whole.items():
        for name, value in tensors.items():
            assert torch.equal(value, halves[group][name]), name


def test_it_changes_what_is_generated_by_its_weight(base: Any, squares: Path, tmp_path: Path) -> None:
    preview = PreviewConfig(every=2, prompts=("a red square",), steps=2)
    train(adapting(base, preview=preview), squares, tmp_path / "lora")
    assert len(list((tmp_path / "lora/samples").glob("*.mp4"))) == 2

    def made(*loras: str) -> dict[str, Any]:
        config = GenerateConfig(prompt="a red square", steps=2, lora=loras)
        return generate(base[0], config, tmp_path / "out.mp4", Silent())

    plain, none, half, twice = (
        made(*loras)
        for loras in (
            (),
            (f"{tmp_path / 'lora'}:0",),
            (f"{tmp_path / 'lora'}:0.5", f"{tmp_path / 'lora'}:0.5"),
            (str(tmp_path / "lora"),),
        )
    )
    assert plain["latents_sha256"] == none["latents_sha256"] != twice["latents_sha256"]
    assert [item["weight"] for item in half["model"]["lora"]] == [0.5, 0.5]
    assert len(half["model"]["lora"][0]["sha256"]) == 64
    # Two halves are one whole up to rounding: compare weights rather than pixels.
    one, two = load_model(base[0]).network, load_model(base[0]).network
    lora = read_lora(tmp_path / "lora", one)
    merge(one, [(lora, 1.0)])
    merge(two, [(lora, 0.5), (lora, 0.5)])
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_the_command_line_takes_several(base: Any, squares: Path, tmp_path: Path, capsys: Any) -> None:
    train(adapting(base), squares, tmp_path / "lora")
    command = ["generate", "--model", str(base[0]), "--prompt", "a red square", "--steps", "2", "--json"]
    loras = ["--lora", f"{tmp_path / 'lora'}:0.25", "--lora", str(tmp_path / "lora")]
    assert main([*command, "--out", str(tmp_path / "o.mp4"), *loras]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [item["weight"] for item in record["model"]["lora"]] == [0.25, 1.0]
    assert main([*command, "--out", str(tmp_path / "o.mp4"), "--lora", str(tmp_path / "none")]) == 2
    assert "holds no LoRA" in capsys.readouterr().err


def test_what_cannot_be_is_refused(base: Any, squares: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lora needs start_from"):
        load_config(TrainConfig, None, ["lora.rank=4"])
    with pytest.raises(ConfigError, match=r"lora: no linear layer .* 'nothing'"):
        train(adapting(base, lora=LoRAConfig(pattern="nothing")), squares, tmp_path / "run")


def test_settings_come_from_the_file() -> None:
    overrides = ['lora.target="attention"', "lora.alpha=8.0", 'start_from="base"']
    config = load_config(TrainConfig, None, overrides)
    assert config.lora == LoRAConfig(rank=16, alpha=8.0, target="attention")
