"""Every config that a command reads: strict in each section, complete in its file, its unions told apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from kinema.ablate.config import AblationConfig
from kinema.config import dump_config, find_recipe, keys, load_config, members_of
from kinema.curate.pipeline import CurateConfig
from kinema.errors import ConfigError
from kinema.evaluate.features import I3DConfig
from kinema.evaluate.metrics import EvaluateConfig
from kinema.evaluate.sampling import Sampling
from kinema.train.config import TrainConfig

ROOTS = [CurateConfig, TrainConfig, EvaluateConfig, AblationConfig]
RECIPES = sorted((Path(__file__).parents[1] / "src/kinema/recipes").glob("*.toml"))


def sections(kind: type, prefix: str = "") -> Iterator[tuple[str, type, list[str]]]:
    """The dotted path of each section, its type, and the overrides that choose it where there are several."""
    yield prefix, kind, []
    for name, hint in get_type_hints(kind).items():
        members = members_of(hint)
        for member in members:
            chosen = [f"{prefix}{name}.kind={member.kind}"] if len(members) > 1 else []
            for path, inner, choices in sections(member, f"{prefix}{name}."):
                yield path, inner, chosen + choices


SECTIONS = [(root, *section) for root in ROOTS for section in sections(root)]


@pytest.mark.parametrize(
    ("root", "prefix", "section", "choices"),
    SECTIONS,
    ids=[f"{case[0].__name__}.{case[1]}" for case in SECTIONS],
)
def test_a_misspelt_key_is_refused_in_every_section(
    root: type, prefix: str, section: type, choices: list[str]
) -> None:
    name = max(get_type_hints(section), key=len)
    misspelt = name[:-1] + "zz"
    with pytest.raises(ConfigError) as caught:
        load_config(root, None, [*choices, f"{prefix}{misspelt}=1"])
    assert str(caught.value) == f'--set: unknown key "{prefix}{misspelt}"; did you mean "{prefix}{name}"?'


@pytest.mark.parametrize("root", ROOTS)
def test_the_defaults_survive_their_file(root: type[Any], tmp_path: Path) -> None:
    file = tmp_path / "resolved.toml"
    file.write_text(dump_config(root()))
    assert load_config(root, file) == root()


def test_the_protocol_of_ucf_101_asks_for_the_weights() -> None:
    protocol = find_recipe("ucf101", "protocol")
    with pytest.raises(ConfigError, match=r'missing key "features\.path"'):
        load_config(EvaluateConfig, protocol)
    config = load_config(EvaluateConfig, protocol, ["features.path=i3d.pt"])
    assert config.features == I3DConfig(path=Path("i3d.pt"))
    assert config.sampling == Sampling(frames=16, fps=25.0, height=240, width=320)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_that_comes_with_kinema_loads(recipe: Path) -> None:
    assert load_config(TrainConfig, recipe).steps > 0


def test_members_of_a_union_of_sections_differ_in_kind() -> None:
    for root in ROOTS:
        for path in keys(root):
            hint: object = root
            for name in path.split("."):
                hint = next(
                    get_type_hints(member)[name]
                    for member in members_of(hint)
                    if name in get_type_hints(member)
                )
            members = members_of(hint)
            kinds = {getattr(member, "kind", None) for member in members}
            assert len(members) < 2 or (len(kinds) == len(members) and None not in kinds), path
