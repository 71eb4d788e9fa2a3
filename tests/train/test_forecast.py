from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kinema.dataset.buckets import BucketRule, Published
from kinema.encoders.text import T5Config
from kinema.errors import ConfigError
from kinema.nn.counting import count_parameters
from kinema.train.config import StageConfig, TrainConfig
from kinema.train.forecast import Measured, forecasts, in_words, resolved, share_of
from kinema.train.launch import training_line
from kinema.train.optim import AdamWConfig
from kinema.train.parallel import ParallelConfig
from kinema.train.planning import as_text, plan_record, seconds_of

STILL = BucketRule(resolution="32px", frames=1)
CLIP = BucketRule(resolution="32px", frames=4)


def measured(rate: float) -> Measured:
    return Measured(
        bucket="32px 4f",
        clips=2,
        flops=rate,
        seconds=1.0,
        encode_mb=80,
        step_mb=100,
        decode_mb=60,
        later_mb=5,
    )


def test_steps_tokens_and_operations_add_up(squares: Path, small_run: TrainConfig) -> None:
    [found] = forecasts(replace(small_run, steps=50), squares)
    assert sum(cost.steps for cost in found.costs) == pytest.approx(50)
    by_frames = {row.bucket_frames: cost for row, cost in zip(found.plan.rows, found.costs, strict=True)}
    cells = (32 // 8 // 2) ** 2
    assert by_frames[4].tokens == 4 * 4 * cells
    assert by_frames[1].tokens == 4 * cells
    assert 4 * by_frames[1].flops > by_frames[4].flops > 3 * by_frames[1].flops
    assert found.flops == pytest.approx(sum(cost.steps * cost.flops for cost in found.costs))
    assert found.heaviest[0].bucket_frames == 4


def test_more_ranks_hold_fewer_clips_and_weights(squares: Path, small_run: TrainConfig) -> None:
    wide = replace(small_run, network=replace(small_run.network, hidden=384, depth=4))
    [one], [two] = forecasts(wide, squares), forecasts(wide, squares, 2)
    assert [cost.rank_clips for cost in one.costs] == [4, 4]
    assert [cost.rank_clips for cost in two.costs] == [2, 2]
    assert [cost.flops for cost in one.costs] == [cost.flops for cost in two.costs]
    weights_mb = count_parameters(resolved(wide)[0].network) * 4 / 2**20
    saved = one.costs[0].memory_mb - two.costs[0].memory_mb
    assert saved > 2 * weights_mb
    with pytest.raises(ConfigError, match=r"does not divide among 3 ranks.*batch_multiplier"):
        forecasts(small_run, squares, 3)


def test_memory_follows_what_is_kept(squares: Path, small_run: TrainConfig) -> None:
    wide = replace(small_run, network=replace(small_run.network, hidden=384, depth=8))

    def memory(config: TrainConfig) -> float:
        return forecasts(config, squares)[0].heaviest[1].memory_mb

    plain = memory(wide)
    assert memory(replace(wide, gradient_checkpointing=True)) < plain
    assert memory(replace(wide, parallel=ParallelConfig(accumulate=2))) < plain
    assert memory(replace(wide, optim=AdamWConfig())) > plain
    assert memory(replace(wide, ema_also=(0.5,))) > plain


def test_published_batches_are_a_ranks_own(small_run: TrainConfig) -> None:
    published = replace(small_run.data, bucketing=Published())
    assert share_of(5, published, 4) == 5
    assert share_of(8, small_run.data, 4) == 2


def test_a_ranks_own_part_is_what_would_be_tried(squares: Path, small_run: TrainConfig) -> None:
    [one], [two] = forecasts(small_run, squares), forecasts(small_run, squares, 2)
    for cost, rows in ((one.costs[0], one), (two.costs[0], two)):
        assert cost.flops == pytest.approx(rows.ranks * cost.rank_clips * cost.clip_flops)


def test_ranks_that_share_tokens_share_the_time(squares: Path, small_run: TrainConfig) -> None:
    [apart] = forecasts(small_run, squares, 2)
    [together] = forecasts(replace(small_run, parallel=ParallelConfig(sequence=2)), squares, 2)
    assert together.costs[0].rank_clips == 2 * apart.costs[0].rank_clips
    assert seconds_of(together, measured(1e9)) == pytest.approx(seconds_of(apart, measured(1e9)))


def test_the_columns_of_large_numbers_do_not_touch(squares: Path, small_run: TrainConfig) -> None:
    wide = replace(small_run, data=replace(small_run.data, batch_multiplier=123457))
    line = forecasts(wide, squares)[0].as_text().splitlines()[1]
    assert len(line.split()) == 3 + 7


def test_encoders_that_are_not_here_are_no_hindrance(squares: Path, small_run: TrainConfig) -> None:
    far = replace(small_run, text_encoder=T5Config(source="no/such-model", width=64, max_tokens=20))
    [found] = forecasts(far, squares)
    assert found.costs[0].flops > forecasts(small_run, squares)[0].costs[0].flops


def test_too_few_steps_are_said(squares: Path, small_run: TrainConfig) -> None:
    [found] = forecasts(replace(small_run, steps=1), squares)
    assert any("too few for" in warning for warning in found.warnings)
    assert found.as_text().count("warning: 1 steps are too few for") == 1


def test_a_chain_is_planned_stage_by_stage(squares: Path, small_run: TrainConfig) -> None:
    chain = replace(
        small_run,
        stage=(
            StageConfig(name="stills", steps=10, buckets=(STILL,)),
            StageConfig(name="clips", steps=30, buckets=(CLIP,)),
        ),
    )
    found = forecasts(chain, squares)
    assert [(one.name, one.steps) for one in found] == [("stills", 10), ("clips", 30)]
    assert any("no video is trained on" in warning for warning in found[0].warnings)
    record = plan_record(found, measured(1e9))
    assert record["seconds"] == pytest.approx(sum(seconds_of(one, measured(1e9)) for one in found))
    assert record["stages"]["clips"]["rows"][0]["tokens"] == found[1].costs[0].tokens
    text = as_text(found, measured(1e9), 2, "torchrun it")
    assert "stage stills" in text
    assert "on 2 processes as fast as this one" in text
    assert "torchrun it" in text
    assert "encoding 80 MB, a step 100 MB (5 MB more" in text
    assert "decoding one clip 60 MB" in text
    assert record["measured"]["peak_mb"] == 100


def test_what_was_not_measured_is_said(squares: Path, small_run: TrainConfig) -> None:
    found = forecasts(small_run, squares)
    assert "not measured: why" in as_text(found, "not measured: why", 1, "")
    assert plan_record(found, "not measured: why")["not_measured"] == "not measured: why"


def test_time_is_shared_by_the_ranks(squares: Path, small_run: TrainConfig) -> None:
    [one], [two] = forecasts(small_run, squares), forecasts(small_run, squares, 2)
    assert seconds_of(one, measured(1e9)) == pytest.approx(2 * seconds_of(two, measured(1e9)))


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.5, "0.5 s"), (90, "1.5 minutes"), (7200, "2.0 hours"), (2 * 86400, "2.0 days")]
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_the_line_for_many_machines() -> None:
    line = training_line("demo", Path("my data"), ("optim.lr=0.1", "data.buckets=[]"), 8, 4)
    assert line.startswith("torchrun --nnodes 8 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint NODE0")
    assert "-m kinema train demo --dataset 'my data' --out run --set optim.lr=0.1" in line
    assert training_line(None, Path("d"), (), 1, 2) == "kinema train --dataset d --out run --nproc 2"
    assert training_line("demo", Path("d"), (), 1, 1) == "kinema train demo --dataset d --out run"
