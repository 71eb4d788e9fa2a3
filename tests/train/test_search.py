from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kinema.cli import main
from kinema.config import dump_config, load_config
from kinema.dataset.buckets import BucketRule
from kinema.train.config import StageConfig, TrainConfig
from kinema.train.forecast import Measured
from kinema.train.search import Tuned, as_text, equal_time, largest_fitting, with_sizes_found


def machine(
    seconds: Callable[[int], float], mb_each: float = 10.0
) -> tuple[Callable[[int], Measured], list[int]]:
    tried: list[int] = []

    def attempt(clips: int) -> Measured:
        tried.append(clips)
        return Measured(
            bucket="b",
            clips=clips,
            flops=1.0,
            seconds=seconds(clips),
            encode_mb=None,
            step_mb=100 + mb_each * clips,
            decode_mb=50,
            later_mb=5,
        )

    return attempt, tried


@pytest.mark.parametrize("guess", [1, 7, 100, 3000])
@pytest.mark.parametrize(
    "seconds",
    [
        lambda clips: 0.01 * clips,
        lambda clips: 0.5 + 0.003 * clips,  # most of it does not depend on the clips
        lambda clips: 0.002 * clips**1.2,
    ],
)
def test_the_time_of_the_base_is_met_within_a_tenth(guess: int, seconds: Callable[[int], float]) -> None:
    attempt, tried = machine(seconds, mb_each=0.01)
    found = equal_time(attempt, guess, target_s=1.0, limit_mb=1e6)
    assert found is not None
    assert found.seconds == pytest.approx(1.0, rel=0.1)
    assert len(tried) <= 10
    assert min(tried) >= 1


def test_whole_clips_give_the_nearest_time() -> None:
    attempt, _ = machine(lambda clips: 0.7 * clips)
    found = equal_time(attempt, 5, target_s=1.0, limit_mb=1e6)
    assert found is not None
    assert found.clips == 1
    slow, _ = machine(lambda clips: 3.0 * clips)
    single = equal_time(slow, 4, target_s=1.0, limit_mb=1e6)
    assert single is not None
    assert single.clips == 1


def test_memory_bounds_the_batch_and_nothing_may_fit() -> None:
    attempt, _ = machine(lambda clips: 0.01 * clips)
    found = equal_time(attempt, 90, target_s=1.0, limit_mb=100 + 5 + 10 * 23)
    assert found is not None
    assert found.clips == 23
    assert equal_time(attempt, 90, target_s=1.0, limit_mb=50) is None
    assert largest_fitting(attempt, 32, limit_mb=100 + 5 + 10 * 9) == attempt(8)
    assert largest_fitting(attempt, 32, limit_mb=50) is None


def test_sizes_go_into_their_own_rules(small_run: TrainConfig) -> None:
    still, clip = (BucketRule(resolution="32px", frames=frames, keep_prob=0.5) for frames in (1, 4))
    data = replace(small_run.data, buckets=(still, clip))

    def tuned(stage: str, size: int) -> Tuned:
        return Tuned(
            stage=stage, rule=replace(still, batch_size=size), seconds=1.0, peak_mb=1.0, against_base=1.0
        )

    alone = with_sizes_found(replace(small_run, data=data), [tuned("", 12)])
    assert alone.data.buckets == (replace(still, batch_size=12), clip)
    chain = (StageConfig(name="a", steps=1), StageConfig(name="b", steps=1, buckets=(still,)))
    staged = with_sizes_found(replace(small_run, data=data, stage=chain), [tuned("b", 3), tuned("a", 5)])
    assert staged.stage[0].buckets == (replace(still, batch_size=5), clip)
    assert staged.stage[1].buckets == (replace(still, batch_size=3),)
    assert "a 32px x 1" in as_text([tuned("a", 5)])


def test_a_search_writes_the_recipe_with_what_it_found(
    squares: Path, small_run: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tuple(BucketRule(resolution="32px", frames=frames) for frames in (1, 4))
    data = replace(
        small_run.data, buckets=rules, bucketing=replace(small_run.data.bucketing, video_as_image=0.3)
    )
    recipe, out = tmp_path / "recipe.toml", tmp_path / "found.toml"
    recipe.write_text(dump_config(replace(small_run, data=data)))
    code = main(["plan", str(recipe), "--dataset", str(squares), "--search", str(out), "--json"])
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    buckets = {bucket["frames"]: bucket for bucket in summary["buckets"]}
    assert code == 0
    assert buckets[4]["against_base"] == 1.0
    assert buckets[4]["batch_size"] == small_run.data.batch_size
    assert buckets[1]["batch_size"] >= 1  # how many is a matter of what else the machine does
    assert all(bucket["seconds"] > 0 and bucket["peak_mb"] > 50 for bucket in buckets.values())
    assert bool(buckets[1]["problem"]) == (not 0.9 <= buckets[1]["against_base"] <= 1.1)
    found = load_config(TrainConfig, out, [])
    assert [rule.batch_size for rule in found.data.buckets] == [
        buckets[1]["batch_size"],
        small_run.data.batch_size,
    ]


def test_a_memory_that_is_none_is_refused(squares: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "x.toml")
    assert main(["plan", "--dataset", str(squares), "--search", out, "--memory-gb", "0"]) == 2
