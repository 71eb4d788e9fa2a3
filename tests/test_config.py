from __future__ import annotations

from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Literal

import pytest

from kinema.config import dump_config, find_recipe, keys, load_config, write_resolved
from kinema.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Cuts:
    threshold: float = 27.0
    min_frames: int = 6


@dataclass(frozen=True, kw_only=True)
class Inner:
    colour: Literal["red", "blue"] = "red"


@dataclass(frozen=True, kw_only=True)
class Deep:
    inner: Inner = field(default_factory=Inner)
    sizes: tuple[Inner, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Flat:
    kind: Literal["flat"] = "flat"
    depth: int = 2


@dataclass(frozen=True, kw_only=True)
class Tall:
    kind: Literal["tall"] = "tall"
    height: int = 3


@dataclass(frozen=True, kw_only=True)
class Recipe:
    seed: int = 0
    rate: float = 1e-4
    name: str = "plain"
    folder: Path = Path("here")
    limit: int | None = None
    span: tuple[int, int] = (1, 2)
    buckets: dict[str, float] = field(default_factory=lambda: {"64px": 1.0})
    cuts: Cuts = field(default_factory=lambda: Cuts(min_frames=12))
    deep: Deep = field(default_factory=Deep)
    network: Flat | Tall = field(default_factory=Flat)
    maybe: Cuts | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")


def toml(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "recipe.toml"
    file.write_text(text)
    return file


def refusal(file: Path | None, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(Recipe, file, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_nothing_given_is_the_default() -> None:
    assert load_config(Recipe) == Recipe()


def test_set_wins_over_file_and_the_last_set_wins(tmp_path: Path) -> None:
    file = toml(tmp_path, "seed = 1\n[cuts]\nthreshold = 20\n")
    config = load_config(Recipe, file, ["seed=2", "seed=3", "folder=/x", "name = two words", "span=[3, 4]"])
    assert (config.seed, config.folder, config.name, config.span) == (3, Path("/x"), "two words", (3, 4))
    assert config.cuts.threshold == 20.0


def test_a_section_keeps_the_default_of_its_owner() -> None:
    assert load_config(Recipe, None, ["cuts.threshold=1"]).cuts.min_frames == 12


def test_a_dict_is_replaced_as_a_whole() -> None:
    assert load_config(Recipe, None, ['buckets."32px"=0.5']).buckets == {"32px": 0.5}


def test_round_trip(tmp_path: Path) -> None:
    config = load_config(
        Recipe, None, ["seed=5", 'network.kind="tall"', "network.height=9", "deep.sizes=[{}]"]
    )
    assert config.network == Tall(height=9)
    write_resolved(tmp_path, config)
    assert load_config(Recipe, tmp_path / "resolved.toml") == config
    assert "limit" not in dump_config(config)


@pytest.mark.parametrize(
    ("override", "unknown", "meant"),
    [
        ("sed=1", "sed", "seed"),
        ("cuts.treshold=1", "cuts.treshold", "cuts.threshold"),
        ("deep.inner.color=red", "deep.inner.color", "deep.inner.colour"),
        ("network.dept=1", "network.dept", "network.depth"),
        ("maybe.min_frame=1", "maybe.min_frame", "maybe.min_frames"),
        ("threshold=1", "threshold", "cuts.threshold"),
        ("deep.sizes=[{color=1}]", "deep.sizes[0].color", "colour"),
    ],
)
def test_a_misspelt_key_is_named_with_the_nearest(override: str, unknown: str, meant: str) -> None:
    message = refusal(None, override)
    assert message.startswith(f'--set: unknown key "{unknown}"; did you mean "')
    assert meant in message.partition(";")[2]


def test_every_section_refuses_an_unknown_key() -> None:
    sections = {key.rpartition(".")[0] for key in keys(Recipe)}
    assert sections == {"", "cuts", "deep", "deep.inner", "network", "maybe"}
    for section in sections:
        path = f"{section}.zzz" if section else "zzz"
        assert f'unknown key "{path}"; known here:' in refusal(None, f"{path}=1")


def test_the_file_is_named(tmp_path: Path) -> None:
    file = toml(tmp_path, "[cuts]\ntreshold = 1\n")
    assert refusal(file) == f'{file}: unknown key "cuts.treshold"; did you mean "cuts.threshold"?'


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("seed=high", '--set: seed = "high": expected a valid integer'),
        ("seed=1.5", "--set: seed = 1.5: expected a valid integer"),
        ('rate="1"', '--set: rate = "1": expected a valid number'),
        ("cuts=3", "--set: cuts = 3: expected"),
        ("deep.inner.colour=green", "--set: deep.inner.colour = \"green\": expected 'red' or 'blue'"),
        ("network.kind=long", '--set: network.kind is "long"; expected "flat" or "tall"'),
        ("network.depth=x", '--set: network.depth = "x": expected a valid integer'),
        ("seed=-1", "seed must not be negative, got -1"),
        ("seed", "--set seed: expected key=value"),
        ("span=[1", "--set span=[1: not a TOML value"),
    ],
)
def test_a_wrong_value_says_got_and_expected(override: str, told: str) -> None:
    assert told in refusal(None, override)


def test_broken_toml_names_file_and_line(tmp_path: Path) -> None:
    file = toml(tmp_path, "seed = 1\nrate = = 2\n")
    message = refusal(file)
    assert message.startswith(f"{file}: not valid TOML")
    assert "line 2" in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.toml").startswith(f"{tmp_path / 'none.toml'}: No such file")


def test_a_required_key_is_asked_for() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Needs:
        steps: int

    with pytest.raises(ConfigError, match='missing key "steps"'):
        load_config(Needs)
    assert load_config(Needs, None, ["steps=3"]) == Needs(steps=3)


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(ConfigError, match='no recipe is called "nothing-such"'):
        find_recipe("nothing-such")
    assert find_recipe("mine/own.toml") == Path("mine/own.toml")


def test_unions_in_this_test_are_sections() -> None:
    assert is_dataclass(Flat)
