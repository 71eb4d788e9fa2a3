"""The published table of stages, as the recipes have it."""

from __future__ import annotations

import pytest

from kinema.config import find_recipe, load_config
from kinema.diffusion.edm import EDMConfig
from kinema.train.config import TrainConfig
from kinema.train.stages import stages

RECIPES = ("image-finetune", "base", "text", "image", "between", "small", "small-image", "small-between")
PUBLISHED = {
    "image-finetune": [(1000, None, -1.2, 1.0, 1), (30000, None, -1.2, 1.0, 1)],
    "base": [(150000, 1536, -1.2, 1.0, 14), (100000, 768, 0.0, 1.0, 14)],
    "text": [(50000, 768, 0.5, 1.4, 14)],
    "image": [(50000, 768, 0.7, 1.6, 14), (50000, 768, 1.0, 1.6, 14)],
    "between": [(10000, 256, 1.0, 1.2, 5)],
}
"""Steps, batch (None: not published), mean and deviation of ln sigma, frames."""


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_loads_and_trains_under_edm(name: str) -> None:
    config = load_config(TrainConfig, find_recipe(f"svd-{name}"))
    assert isinstance(config.process, EDMConfig)
    assert all(stage.end > stage.first for stage in stages(config))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_table(name: str) -> None:
    config = load_config(TrainConfig, find_recipe(f"svd-{name}"))
    found = []
    for stage in stages(config):
        process = stage.config.process
        assert isinstance(process, EDMConfig)
        batch = stage.config.data.batch_size
        frames = max(rule.frames for rule in stage.config.data.buckets)
        found.append((stage.end - stage.first, batch, process.p_mean, process.p_std, frames))
    expected = PUBLISHED[name]
    assert [row[:1] + row[2:] for row in found] == [row[:1] + row[2:] for row in expected]
    assert all(want[1] in (None, got[1]) for got, want in zip(found, expected, strict=True))
    assert config.ema_decay == 0.9999
    rates = {"image-finetune": 1e-4, "base": 1e-4, "text": 3e-5, "image": 3e-5, "between": 1e-4}
    assert config.optim.lr == rates[name]


def test_only_the_time_embedding_learns_first() -> None:
    first, second = stages(load_config(TrainConfig, find_recipe("svd-image-finetune")))
    assert (first.config.trains, second.config.trains) == ("time-embedding", "all")
