from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from kinema.errors import CheckpointError, ConfigError
from kinema.nn import STDiT2, STDiT2Config
from kinema.train.optim import (
    AdamW8bitConfig,
    AdamWConfig,
    MuonConfig,
    OptimConfig,
    Optimizers,
    ScheduleConfig,
    update_average,
)


def network() -> nn.ModuleDict:
    torch.manual_seed(0)
    config = STDiT2Config(depth=1, hidden=24, heads=2, in_channels=4, caption_channels=8, max_tokens=4)
    return nn.ModuleDict({"network": STDiT2(config)})


def descend(module: nn.Module, optimizers: Optimizers, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizers.step(1.0)


@pytest.mark.parametrize("config", [AdamWConfig(lr=1e-3, weight_decay=0.1), MuonConfig()])
def test_every_trained_parameter_moves_and_no_other(config: AdamWConfig | MuonConfig) -> None:
    module = network()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    descend(module, Optimizers(config, module), 0)
    still = [name for name, value in module.state_dict().items() if torch.equal(value, before[name])]
    assert sorted(still) == ["network.rope.freqs", "network.y_embedder.y_embedding"]


def test_weight_decay_is_for_matrices_only() -> None:
    module = network()
    optimizers = Optimizers(AdamWConfig(lr=1e-2, weight_decay=10.0), module)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    optimizers.step(1.0)
    after = module.state_dict()
    table, matrix = "network.blocks.0.scale_shift_table", "network.blocks.0.attn.qkv.weight"
    assert torch.equal(after[table], before[table])
    torch.testing.assert_close(after[matrix], before[matrix] * 0.9)


@pytest.mark.parametrize("config", [AdamWConfig(lr=1e-3), MuonConfig(), AdamW8bitConfig(lr=1e-3)])
def test_state_round_trip_goes_on_the_same(config: OptimConfig) -> None:
    if isinstance(config, AdamW8bitConfig):
        pytest.importorskip("bitsandbytes", reason="needs the extra eight-bit")
    first, second = network(), network()
    one, two = Optimizers(config, first), Optimizers(config, second)
    descend(first, one, 0)
    second.load_state_dict(first.state_dict())
    two.load(one.tensors(), "here")
    descend(first, one, 1)
    descend(second, two, 1)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_a_foreign_state_is_refused() -> None:
    module = network()
    optimizers = Optimizers(AdamWConfig(), module)
    with pytest.raises(CheckpointError, match="does not optimise"):
        optimizers.load({"network.nothing/exp_avg": torch.zeros(2)}, "here")
    with pytest.raises(CheckpointError, match=r"has shape \[3\]"):
        optimizers.load({"network.t_block.1.bias/exp_avg": torch.zeros(3)}, "here")


def test_the_schedule_warms_up_stays_and_falls() -> None:
    schedule = ScheduleConfig(warmup_steps=4, shape="linear", decay=0.5, final=0.1)
    factors = [schedule.factor(step, 20) for step in range(21)]
    assert factors[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors[10] == 1.0
    assert factors[15] == pytest.approx(0.55)
    assert factors[20] == pytest.approx(0.1)
    assert ScheduleConfig().factor(7, 10) == 1.0


def test_warm_up_stable_decay() -> None:
    schedule = ScheduleConfig(warmup_steps=10, shape="wsd")
    factors = [schedule.factor(step, 100) for step in range(101)]
    assert factors[9:81] == [1.0] * 72
    assert factors[85] == pytest.approx(0.5)
    assert factors[100] == 0


def test_moments_of_a_byte_need_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match="extra eight-bit"):
        Optimizers(AdamW8bitConfig(), network())


def test_the_average_follows_fast_at_first() -> None:
    average, module = nn.Linear(2, 2), nn.Linear(2, 2)
    old = average.weight.detach().clone()
    update_average(average.parameters(), module.parameters(), decay=0.99, step=0)
    torch.testing.assert_close(average.weight, old.lerp(module.weight, 0.9))
    old = average.weight.detach().clone()
    update_average(average.parameters(), module.parameters(), decay=0.99, step=10**6)
    torch.testing.assert_close(average.weight, old.lerp(module.weight, 0.01))


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="lr must be above 0"):
        MuonConfig(lr=0)
    with pytest.raises(ValueError, match="decay must be in"):
        ScheduleConfig(decay=0)
