from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from kinema.config import dump_config, load_config
from kinema.dataset.buckets import BucketRule, Published, Timed
from kinema.dataset.config import DataConfig
from kinema.dataset.presets import STAGE2
from kinema.errors import ConfigError

PAGE = Path(__file__).parents[2] / "docs" / "buckets.md"


@dataclass(frozen=True, kw_only=True)
class Root:
    data: DataConfig = field(default_factory=DataConfig)


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "recipe.toml"
    file.write_text(text)
    return file


def test_the_page_shows_valid_configs(tmp_path: Path) -> None:
    own, published = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    config = load_config(Root, write(tmp_path, own)).data
    assert [(rule.resolution, rule.frames) for rule in config.buckets] == [
        ("96px", 16),
        ("64px", 8),
        ("64px", 1),
    ]
    assert config.bucketing == Timed(fps=8)
    assert load_config(Root, write(tmp_path, published)).data.bucketing == Published()


@pytest.mark.parametrize("name", ["image_weight", "source_weights", "batch_multiplier", "flip", "cache_mb"])
def test_the_page_names_the_keys(name: str) -> None:
    assert f".{name}" in PAGE.read_text()


@pytest.mark.parametrize(
    "config",
    [
        DataConfig(),
        DataConfig(buckets=STAGE2, bucketing=Published(drop_last=False)),
        DataConfig(bucketing=Timed(source_weights={"*/a/*": 2.0}), caption_weights={"human": 1.0}),
    ],
)
def test_configs_survive_being_written(tmp_path: Path, config: DataConfig) -> None:
    root = Root(data=config)
    assert load_config(Root, write(tmp_path, dump_config(root))) == root


@pytest.mark.parametrize(
    "override",
    [
        "data.batchsize=4",
        "data.bucketing.fsp=4",
        "data.buckets=[{resolution='64px', frame=8}]",
        "data.batch_size=0",
    ],
)
def test_wrong_keys_and_values_are_refused(override: str) -> None:
    with pytest.raises(ConfigError):
        load_config(Root, overrides=[override])


def test_batch_sizes() -> None:
    rule = BucketRule(resolution="64px", frames=8)
    config = DataConfig(batch_size=6, batch_multiplier=4)
    assert config.batch_size_of(rule) == 24
    assert config.batch_size_of(replace(rule, batch_size=2)) == 8
