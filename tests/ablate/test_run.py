"""A whole ablation, small: what it writes, that it goes on, and that people's votes take over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from kinema.ablate.config import AblationConfig
from kinema.ablate.run import plan_ablation, run_ablation
from kinema.cli import main
from kinema.config import dump_config, find_recipe, load_config
from kinema.errors import ConfigError
from kinema.evaluate.arena import read_arena
from kinema.evaluate.votes import Vote


@pytest.fixture(scope="module")
def done(scored: Path, small_ablation: AblationConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ablation") / "out"
    summary = run_ablation(plan_ablation(small_ablation, scored, out))
    assert summary["voter"] == "simulated"
    return out


def test_everything_is_written_and_named(done: Path) -> None:
    report = json.loads((done / "report.json").read_text())
    assert report["models"] == 4
    assert set(report["recommendations"]) == {"motion", "captions"}
    assert "aesthetics" in report["left_out"]
    page = (done / "report.html").read_text()
    assert "SIMULATED votes" in page
    assert "SIMULATED votes" in (done / "report.md").read_text()
    assert (done / "report" / "motion.png").is_file()
    arena = read_arena(done / "arena")
    assert arena.groups == (("all", "motion-50"), ("captions-human", "captions-video"))
    assert len(arena.questions()) == 4
    votes = arena.votes.read()
    assert len(votes) == 8
    assert {vote.voter for vote in votes} == {"simulated:metrics-0"}


def test_models_start_alike_and_see_the_same_prompts(done: Path) -> None:
    arms = sorted(path.name for path in (done / "arms").iterdir())
    sidecars = [json.loads((done / "arms" / arm / "samples" / "000.mp4.json").read_text()) for arm in arms]
    assert len({(item["prompt"], item["seed"]) for item in sidecars}) == 1
    assert len({item["latents_sha256"] for item in sidecars}) > 1
    vae = {(done / "arms" / arm / "run" / "vae" / "model.safetensors").read_bytes() for arm in arms}
    assert len(vae) == 1


def test_a_second_run_trains_nothing_and_counts_no_vote_twice(
    done: Path, scored: Path, small_ablation: AblationConfig
) -> None:
    votes = (done / "arena" / "votes.jsonl").read_bytes()
    before = {path: path.stat().st_mtime_ns for path in (done / "arms").rglob("*") if path.is_file()}
    planned = plan_ablation(small_ablation, scored, done)
    assert (planned.cost.models, planned.cost.seconds) == (0, 0)
    run_ablation(planned)
    assert before == {path: path.stat().st_mtime_ns for path in (done / "arms").rglob("*") if path.is_file()}
    assert (done / "arena" / "votes.jsonl").read_bytes() == votes


def test_votes_of_people_take_the_place_of_simulated_ones(
    done: Path, scored: Path, small_ablation: AblationConfig
) -> None:
    arena = read_arena(done / "arena")
    question = next(q for q in arena.questions() if {q.first.model, q.second.model} == {"all", "motion-50"})
    vote = Vote(
        vote_id="ann-1",
        model_a=question.first.model,
        model_b=question.second.model,
        outcome="a",
        axis="quality",
        voter="ann",
        prompt=question.prompt,
    )
    arena.votes.append(vote)
    summary = run_ablation(plan_ablation(small_ablation, scored, done))
    assert (summary["voter"], summary["votes"]) == ("people", 1)
    assert "1 votes by 1 people" in (done / "report.md").read_text()


def test_another_study_does_not_go_into_the_same_folder(
    done: Path, scored: Path, small_ablation: AblationConfig
) -> None:
    with pytest.raises(ConfigError, match="another config"):
        plan_ablation(replace(small_ablation, seed=5), scored, done)


def test_sampling_that_the_videos_cannot_fill_is_refused_before_training(
    scored: Path, small_ablation: AblationConfig, tmp_path: Path
) -> None:
    long = replace(small_ablation.evaluate.sampling, frames=9)
    config = replace(small_ablation, evaluate=replace(small_ablation.evaluate, sampling=long))
    with pytest.raises(ConfigError, match=r"set evaluate\.sampling\.frames"):
        plan_ablation(config, scored, tmp_path / "out")


def test_the_ablation_that_comes_with_kinema_is_the_whole_study() -> None:
    config = load_config(AblationConfig, find_recipe("small", "ablation"))
    assert config.studies == ("motion", "aesthetics", "text_match", "text_area", "captions")
    assert config.fractions == (0.0, 0.125, 0.25, 0.5)


def test_the_command_says_the_cost_first(
    scored: Path, small_ablation: AblationConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "ablation.toml"
    recipe.write_text(dump_config(replace(small_ablation, studies=("motion",))))
    words = ["ablate", str(recipe), "--dataset", str(scored), "--out", str(tmp_path / "out"), "--json"]
    assert main([*words, "--plan"]) == 0
    told = capsys.readouterr()
    assert "2 models: 4 training steps at" in told.err
    assert json.loads(told.out)["cost"]["models"] == 2
    assert not (tmp_path / "out" / "arms" / "all" / "run").exists()


@pytest.mark.slow
def test_a_killed_run_goes_on_with_two_processes(
    scored: Path, small_ablation: AblationConfig, tmp_path: Path
) -> None:
    recipe, out = tmp_path / "ablation.toml", tmp_path / "out"
    recipe.write_text(dump_config(replace(small_ablation, devices=("cpu", "cpu"))))
    words = [
        sys.executable,
        "-m",
        "kinema",
        "ablate",
        str(recipe),
        "--dataset",
        str(scored),
        "--out",
        str(out),
    ]
    run = subprocess.Popen(words, start_new_session=True, stderr=subprocess.DEVNULL)
    while not list(out.glob("arms/*/run/metrics.jsonl")):
        assert run.poll() is None
        time.sleep(0.05)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    time.sleep(1.5)
    again = subprocess.run([*words, "--json"], capture_output=True, text=True, check=False)
    assert again.returncode == 1, again.stderr  # aesthetics are left out
    assert json.loads(again.stdout.splitlines()[-1])["models"] == 4
