from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kinema.runlog import read_metrics
from kinema.train.config import TrainConfig
from kinema.train.guard import SpikeConfig, SpikeGuard
from kinema.train.loop import train
from kinema.train.step import StepOnce


def test_only_a_norm_far_above_the_median_is_a_spike() -> None:
    guard = SpikeGuard(SpikeConfig(factor=5, window=10, patience=4))
    assert [guard.is_spike(norm) for norm in (1.0, 90.0, 1.0, 1.0, 4.9, 5.1, 1.0)] == [
        *[False] * 5,
        True,
        False,
    ]
    assert guard.skipped == 1


def test_a_lasting_rise_becomes_usual() -> None:
    guard = SpikeGuard(SpikeConfig(factor=5, window=8, patience=4))
    found = [guard.is_spike(norm) for norm in [1.0] * 8 + [10.0] * 8]
    assert found[8]
    assert not found[-1]


def test_what_is_remembered_goes_on() -> None:
    one = SpikeGuard(SpikeConfig(patience=2))
    for norm in (0.1, 0.3, 1 / 3, 9.0):
        one.is_spike(norm)
    two = SpikeGuard(SpikeConfig(patience=2))
    two.restore(one.numbers())
    assert two.numbers() == one.numbers()


def test_off_and_nonsense() -> None:
    guard = SpikeGuard(SpikeConfig(factor=0, patience=1))
    assert not any(guard.is_spike(norm) for norm in (1.0, 1.0, 1e9))
    with pytest.raises(ValueError, match="factor must be 0"):
        SpikeConfig(factor=0.5)


def test_a_spike_leaves_the_weights_alone_and_is_counted(
    squares: Path, small_run: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fourth gradient is a hundred times too long: the step is one that changes nothing."""
    gradient, before = StepOnce._gradient, {}

    def longer(self: StepOnce, *arguments: object) -> None:
        gradient(self, *arguments)  # type: ignore[arg-type]
        parameters = dict(self.run.state.trained.named_parameters())
        if self.run.state.step == 3:
            for parameter in parameters.values():
                if parameter.grad is not None:
                    parameter.grad *= 100
        before[self.run.state.step] = {name: value.detach().clone() for name, value in parameters.items()}

    monkeypatch.setattr(StepOnce, "_gradient", longer)
    guarded = replace(small_run, steps=5, spikes=SpikeConfig(factor=20, patience=2))
    summary = train(guarded, squares, tmp_path / "run")
    assert summary["skipped_steps"] == 1
    assert [row.get("skipped") for row in read_metrics(tmp_path / "run")] == [None, None, None, 1, None]
    assert all(before[3][name].equal(before[4][name]) for name in before[3])
    assert not all(before[2][name].equal(before[3][name]) for name in before[3])
