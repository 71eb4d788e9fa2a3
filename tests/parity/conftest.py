"""Reading fixtures, and the one tolerance of all parity tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from kinema.nn import STDiT2, STDiT2Config

ABSOLUTE, RELATIVE = 2e-5, 1e-4
WORST = pytest.StashKey[dict[str, tuple[float, float]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[WORST] = {}


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    worst = config.stash.get(WORST, {})
    if worst:
        terminalreporter.section("worst parity error per fixture")
    for name, (error, share) in sorted(worst.items()):
        terminalreporter.write_line(f"{name}: max abs {error:.2e}, {share:.1%} of the tolerance")


@dataclass
class Fixture:
    """Tensors and facts of one fixture file."""

    name: str
    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    worst: dict[str, tuple[float, float]] = field(repr=False)

    def under(self, prefix: str) -> dict[str, Tensor]:
        return {
            key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)
        }

    def check(self, got: Tensor, key: str) -> None:
        """`got` equals the tensor under `key` to 2e-5 + 1e-4 |expected|, element by element."""
        self.check_values(got, self.tensors[key], key)

    def check_at_scale(self, got: Tensor, key: str) -> None:
        """The same tolerance against the largest value, for what a random network has amplified.

        Values that pass through many steps of it grow to 1e5 and keep the rounding of the largest.
        """
        scale = self.tensors[key].abs().max().clamp_min(1e-12)
        self.check_values(got / scale, self.tensors[key] / scale, key)
        distance = (got - self.tensors[key]).norm() / self.tensors[key].norm()
        assert distance < RELATIVE, f"{self.name} {key}: relative distance {distance:.2e}"

    def check_values(self, got: Tensor, expected: Tensor, key: str) -> None:
        assert got.shape == expected.shape, f"{self.name} {key}: shape {got.shape}, expected {expected.shape}"
        assert torch.isfinite(got).all(), f"{self.name} {key}: not finite"
        error = (got.double() - expected.double()).abs()
        share = (error / (ABSOLUTE + RELATIVE * expected.double().abs())).max().item()
        worst_error, worst_share = self.worst.get(self.name, (0.0, 0.0))
        self.worst[self.name] = (max(worst_error, error.max().item()), max(worst_share, share))
        assert share <= 1, f"{self.name} {key}: max abs error {error.max():.3e}, {share:.2f} x the tolerance"


@pytest.fixture
def read(pytestconfig: pytest.Config) -> Callable[[str], Fixture]:
    """`read("opensora/iddpm_tables")`: that fixture, or a skip that names the missing file."""
    folder: Path = pytestconfig.getoption("fixtures_folder")

    def reader(name: str) -> Fixture:
        arrays, facts = folder / f"{name}.safetensors", folder / f"{name}.json"
        if not arrays.exists() and not facts.exists():
            pytest.skip(f"{arrays} is not in the fixtures folder")
        return Fixture(
            name,
            load_file(arrays) if arrays.exists() else {},
            json.loads(facts.read_text()) if facts.exists() else {},
            pytestconfig.stash[WORST],
        )

    return reader


@pytest.fixture
def build_published():
    """`build_published(fixture, rope_first=...)`: the network of a fixture, with its weights."""
    return _build_published


def _published_config(facts, *, rope_first=True):
    return STDiT2Config(
        depth=facts["depth"],
        hidden=facts["hidden_size"],
        heads=facts["num_heads"],
        patch_size=tuple(facts["patch_size"]),
        in_channels=facts["in_channels"],
        mlp_ratio=facts["mlp_ratio"],
        caption_channels=facts["caption_channels"],
        max_tokens=facts["model_max_length"],
        input_sq_size=facts["input_sq_size"],
        qk_norm=facts["qk_norm"],
        learned_variance=facts["pred_sigma"],
        caption_drop=facts["class_dropout_prob"],
        rope_first=rope_first,
        final_layer_published=True,
        shared_position_scale=True,
    )


def _build_published(fixture, *, rope_first=True):
    network = STDiT2(_published_config(fixture.facts["config"], rope_first=rope_first))
    network.load_state_dict(fixture.under("state."), strict=True)
    return network.eval()
