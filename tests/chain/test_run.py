"""A chain of small runs: what is planned, what goes on from what; a finished run is not trained again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kinema.chain.config import ChainConfig, ChainRun
from kinema.chain.run import plan_chain, run_chain, shortened
from kinema.cli import main
from kinema.cli.chaining import _recipe
from kinema.config import find_recipe, load_config
from kinema.errors import ConfigError
from kinema.files import write_text
from kinema.manifest import read_clips, write_clips
from kinema.model import load_model
from kinema.nn.lora import LoRAConfig
from kinema.train.config import StageConfig, TrainConfig


@pytest.fixture
def labelled(squares: Path, tmp_path: Path) -> Path:
    """One clip pans, the other is still."""
    labels = ("pan_left", "static")
    rows = [
        replace(clip, camera_motion=label) for clip, label in zip(read_clips(squares), labels, strict=True)
    ]
    write_text(tmp_path / "dataset" / "dataset.toml", "")
    write_clips(tmp_path / "dataset", "0", rows)
    return tmp_path / "dataset"


@pytest.fixture
def chain() -> ChainConfig:
    return ChainConfig(
        run=(
            ChainRun(name="text", recipe="text"),
            ChainRun(name="image", recipe="image", start_from="text"),
            ChainRun(name="pan", recipe="pan", start_from="text", camera_motion=("pan_left", "pan_right")),
            ChainRun(name="zoom", recipe="pan", start_from="text", camera_motion=("zoom_in",)),
            ChainRun(name="orbits", recipe="image", start_from="image", dataset="orbits"),
            ChainRun(name="after", recipe="image", start_from="orbits"),
        )
    )


@pytest.fixture
def recipe(small_unet_run: TrainConfig):
    config = replace(small_unet_run, steps=2, save_every=2)

    def found(run: ChainRun) -> TrainConfig:
        match run.recipe:
            case "image":
                return replace(config, task="image-to-video")
            case "pan":
                return replace(config, start_from=Path("text"), lora=LoRAConfig(rank=2))
        return config

    return found


def test_a_chain_trains_each_run_on_the_one_it_names(
    chain: ChainConfig, recipe, labelled: Path, tmp_path: Path
) -> None:
    planned = plan_chain(chain, recipe, labelled, tmp_path / "out")
    assert [link.name for link in planned.links] == ["text", "image", "pan"]
    assert "no kept clip labelled zoom_in" in planned.left_out["zoom"]
    assert "--with orbits=FOLDER" in planned.left_out["orbits"]
    assert "starts from orbits" in planned.left_out["after"]
    summary = run_chain(planned)
    assert [row["name"] for row in summary["runs"]] == ["text", "image", "pan"]
    assert load_model(tmp_path / "out" / "image" / "run").task == "image-to-video"
    assert (tmp_path / "out" / "pan" / "run" / "lora").is_dir()
    (panning,) = read_clips(tmp_path / "out" / "pan" / "view")
    assert panning.camera_motion == "pan_left"
    written = (tmp_path / "out" / "text" / "run" / "model.toml").stat().st_mtime_ns
    (tmp_path / "out" / "pan" / "result.json").unlink()  # as if it had been stopped there
    again = run_chain(plan_chain(chain, recipe, labelled, tmp_path / "out"))
    assert again["runs"][:2] == summary["runs"][:2]
    assert (tmp_path / "out" / "text" / "run" / "model.toml").stat().st_mtime_ns == written
    with pytest.raises(ConfigError, match="another share"):
        run_chain(plan_chain(chain, recipe, labelled, tmp_path / "out", share=0.5))


@pytest.fixture
def promised(labelled: Path) -> Path:
    """The same said to be of eight seconds, for plans: nothing is decoded for them."""
    rows = [
        replace(clip, frames=96, end_frame=96, end_s=8.0, duration_s=8.0, width=128, height=128)
        for clip in read_clips(labelled)
    ]
    write_clips(labelled, "0", rows)
    return labelled


def test_the_chain_of_stable_video_diffusion_is_whole(promised: Path, tmp_path: Path) -> None:
    shipped = load_config(ChainConfig, find_recipe("svd-small", "chain"))
    others = {"orbits": promised, "turns": promised}
    planned = plan_chain(shipped, _recipe, promised, tmp_path / "out", others=others, share=0.01)
    assert {link.name for link in planned.links} | set(planned.left_out) == {run.name for run in shipped.run}
    assert set(planned.left_out) == {"zoom"}
    tasks = {link.name: link.train.task for link in planned.links}
    assert tasks == {
        "text": "text-to-video",
        "image": "image-to-video",
        "between": "interpolation",
        "static": "text-to-video",
        "pan": "text-to-video",
        "orbits": "image-to-video",
        "around": "image-to-video",
    }
    assert all(link.steps <= 6 for link in planned.links)
    assert not (tmp_path / "out").exists()


def test_a_run_that_nothing_can_train_is_left_out_before_the_first_step(
    chain: ChainConfig, recipe, labelled: Path, tmp_path: Path
) -> None:
    rows = [replace(clip, duration_s=0.1, frames=2, kept=True) for clip in read_clips(labelled)]
    write_clips(labelled, "0", [replace(rows[0], duration_s=2.0, frames=24), rows[1]])
    still = replace(chain.run[2], name="still", camera_motion=("static",))

    def of_videos(run: ChainRun) -> TrainConfig:
        config = recipe(run)
        bucketing = replace(config.data.bucketing, video_as_image=0.0)
        return replace(
            config, data=replace(config.data, buckets=config.data.buckets[:1], bucketing=bucketing)
        )

    planned = plan_chain(ChainConfig(run=(chain.run[0], still)), of_videos, labelled, tmp_path / "out")
    assert [link.name for link in planned.links] == ["text"]
    assert "nothing to train on in the chosen clips of" in planned.left_out["still"]


def test_a_share_of_the_steps_is_at_least_one_of_each_stage(small_run: TrainConfig) -> None:
    stages = (StageConfig(name="a", steps=100), StageConfig(name="b", steps=3))
    assert [stage.steps for stage in shortened(replace(small_run, stage=stages), 0.1).stage] == [10, 1]
    assert shortened(replace(small_run, steps=7), 0.5).steps == 4
    assert shortened(small_run, 1.0) is small_run


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        ((), "at least one"),
        ((("a", ""), ("a", "")), "two runs are called 'a'"),
        ((("a", "b"), ("b", "")), "starts from 'b', which is not before it: none"),
        ((("../a", ""),), "named in a-z"),
    ],
)
def test_a_chain_that_makes_no_sense_is_refused(runs: tuple[tuple[str, str], ...], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ChainConfig(run=tuple(ChainRun(name=name, recipe="r", start_from=start) for name, start in runs))


def test_the_command_plans_and_names_what_is_wrong(
    promised: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["chain", "svd-small", "--dataset", str(promised), "--out", str(tmp_path / "out")]
    assert main([*words, "--plan", "--json"]) == 0
    told = capsys.readouterr()
    assert [row["name"] for row in json.loads(told.out.splitlines()[-1])["runs"]][:2] == ["text", "image"]
    assert "left out: orbits: no dataset" in told.err
    for more, fault in {
        ("--with", "orbits"): "expected NAME=FOLDER",
        ("--with", "moons=x"): "no dataset 'moons'; it names: orbits, turns",
        ("--share", "0"): "share must be in",
    }.items():
        assert main([*words, *more]) == 2
        assert fault in capsys.readouterr().err
