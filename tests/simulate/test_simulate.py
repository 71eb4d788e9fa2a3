from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kinema.cli import main
from kinema.config import find_recipe, load_config
from kinema.dataset.buckets import BucketRule, Published
from kinema.dataset.sampler import build_schedule
from kinema.errors import ConfigError
from kinema.progress import Silent
from kinema.shapes import Bucket
from kinema.simulate import published
from kinema.simulate.cost import CostModel, encoder_flops
from kinema.simulate.devices import DEVICES, Device
from kinema.simulate.replay import replay
from kinema.simulate.run import Cluster, as_text, share_of, simulate
from kinema.train.config import CacheConfig, TrainConfig
from kinema.train.forecast import resolved
from kinema.train.parallel import ParallelConfig

H800 = next(device for device in DEVICES if device.name == "h800")
CLIP = Bucket("240p", 16, "0.56")


def recipe(name: str) -> TrainConfig:
    return load_config(TrainConfig, find_recipe(name))


def model(world: int = 1, device: Device = H800, **changes: object) -> CostModel:
    config, sizes = resolved(replace(recipe("open-sora-stage2"), **changes))  # type: ignore[arg-type]
    return CostModel(config=config, sizes=sizes, device=device, world=world)


def test_twice_the_clips_take_twice_the_time_on_one_processor() -> None:
    one, two = model().step(CLIP, 1), model().step(CLIP, 2)
    assert two.seconds == pytest.approx(2 * one.seconds)
    assert (two.tokens, two.flops) == (2 * one.tokens, 2 * one.flops)
    assert one.tokens == 16 * 15 * 27
    assert one.gathered_s == one.exchanged_s == 0


def test_checkpointing_computes_a_third_more_of_the_network() -> None:
    with_it, without = model().step(CLIP, 1), model(gradient_checkpointing=False).step(CLIP, 1)
    again = (with_it.computing_s - without.computing_s) * H800.peak_tflops * 1e12 * 0.16
    assert again == pytest.approx(with_it.flops / 3)
    assert with_it.flops == without.flops


def test_caches_leave_the_encoders_out() -> None:
    config = recipe("open-sora-stage2")
    both, neither = CacheConfig(latents=True, text=True), CacheConfig()
    assert encoder_flops(replace(config, cache=both), CLIP) == 0
    assert encoder_flops(replace(config, cache=neither), CLIP) > 1e12


def test_sharded_weights_are_waited_for_only_on_slow_links() -> None:
    assert model(64).step(CLIP, 17).seconds == model(64).step(CLIP, 17).computing_s
    slow = replace(H800, network_gbs=0.01)
    step = model(64, slow).step(CLIP, 1)
    assert step.seconds == step.gathered_s > step.computing_s
    # Twice gathered in bfloat16 and summed once in float32: 8 bytes a weight, but for the rank's own share.
    assert model(64).gathered_bytes == pytest.approx(8 * 767_452_100 * 63 / 64, rel=0.01)
    assert model(64, parallel=ParallelConfig(replicate=8)).shards == 8


def test_ranks_that_share_tokens_compute_less_and_exchange() -> None:
    alone = model(8).step(CLIP, 1)
    shared = model(8, parallel=ParallelConfig(sequence=4)).step(CLIP, 1)
    assert shared.flops == pytest.approx(alone.flops / 4)
    assert shared.computing_s < alone.computing_s
    # 28 blocks, there and back, three passes, three quarters of a rank's tokens, two bytes a channel.
    sent = 28 * 2 * 3 * 0.75 * (alone.tokens / 4) * 1152 * 2
    assert shared.exchanged_s == pytest.approx(sent / 200e9)


def test_published_ranks_wait_for_the_slowest_and_kinemas_do_not() -> None:
    clips = published.assumed_clips(600)
    rules = (
        BucketRule(resolution="240p", frames=16, batch_size=4, keep_prob=0.5),
        BucketRule(resolution="144p", frames=16, batch_size=4),
        BucketRule(resolution="144p", frames=1, batch_size=4),
    )
    data = replace(recipe("open-sora-stage2").data, buckets=rules)
    uneven = replay(build_schedule(clips, data), model(4, data=data), 8)
    assert uneven.idle > 0.1
    assert sum(uneven.slowest.values()) == pytest.approx(1)
    timed = replace(recipe("demo").data, buckets=rules)
    even = replay(build_schedule(clips, timed), model(4, data=timed), 8)
    assert even.idle == pytest.approx(0, abs=1e-9)
    assert even.mfu < 0.16


def test_shapes_are_those_of_the_batches(squares: Path, small_run: TrainConfig) -> None:
    clips = published.assumed_clips(300)
    rules = (BucketRule(resolution="144p", frames=16, batch_size=2), BucketRule(resolution="144p", frames=1))
    for bucketing in (Published(drop_last=False), small_run.data.bucketing):
        schedule = build_schedule(clips, replace(small_run.data, buckets=rules, bucketing=bucketing))
        for step in range(12):
            batches = [schedule.batch(step, rank, 2) for rank in range(2)]
            assert schedule.shapes(step, 2) == [(batch.bucket, len(batch.samples)) for batch in batches]


def test_speeds_of_single_buckets_come_near_the_published_ones() -> None:
    config = recipe("open-sora-stage2")
    compared = [*published._throughputs(config), *published._single_steps(config)]
    assert [one.name for one in compared if one.fitted] == ["16 frames of 256x256"]
    assert all(0.7 < one.ratio < 1.4 for one in compared)
    text = published.as_text(compared)
    assert text.count("\n") == len(compared) + 1
    assert "fitted" in text


@pytest.mark.slow
def test_the_published_stages_are_predicted_within_a_third() -> None:
    compared = published._stages(recipe, published.assumed_clips(8000), 20)
    steps = [one for one in compared if one.unit == "s/step"]
    assert [one.published for one in steps] == [7.0, 13.0]
    assert all(2 / 3 < one.ratio < 1.5 for one in steps)


def test_a_dataset_and_a_recipe(squares: Path, small_run: TrainConfig) -> None:
    summary = simulate(small_run, squares, Cluster(device=H800, world=4), 30, Silent())
    one = summary["stages"]["run"]
    assert one["days"] == pytest.approx(small_run.steps * one["step_s"] / 86400)
    assert one["fits"]
    assert summary["nodes"] == 1
    assert one["node_network_per_s"] == 0
    assert one["checkpoints"] > 0
    text = as_text(summary)
    assert "4 h800 in 1 nodes" in text
    assert "in all: " in text


def test_the_share_comes_from_a_log(tmp_path: Path) -> None:
    rows = [{"step": step, "mfu": mfu} for step, mfu in enumerate((0.1, 0.3, 0.2))]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert share_of(tmp_path) == 0.2
    with pytest.raises(ConfigError, match=r"no metrics\.jsonl with mfu"):
        share_of(tmp_path / "none")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "needs --dataset"),
        (["--dataset", "d", "--world", "0"], "--world and --steps"),
        (["--dataset", "d", "--share", "2"], "--share must be in"),
    ],
)
def test_bad_words_are_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "demo", *words]) == 2
    assert said in capsys.readouterr().err
