from __future__ import annotations

import json
from pathlib import Path

import pytest

from kinema.studio import making
from kinema.studio.jobs import Jobs, Maker
from kinema.train.config import TrainConfig


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path / "jobs")


def submit(jobs: Jobs, model: Path, **request: object):
    return jobs.submit(model, {"prompt": "a red square moves", "steps": 2, **request}, {"task": "text"})


def test_jobs_are_made_in_order_and_outlive_everything(jobs: Jobs, tmp_path: Path) -> None:
    first, second = submit(jobs, tmp_path), submit(jobs, tmp_path)
    again = Jobs(jobs.folder)
    assert [job.id for job in again.waiting()] == [first.id, second.id]
    first.say(state="running", step=1, steps=2)
    assert [job.id for job in again.waiting()] == [first.id, second.id]  # cut off: it is made again
    first.say(state="done")
    assert [job.id for job in again.waiting()] == [second.id]


def test_only_ids_are_looked_up(jobs: Jobs, tmp_path: Path) -> None:
    job = submit(jobs, tmp_path)
    assert jobs.get(job.id) == job
    for name in ("", "..", "../jobs", f"../jobs/{job.id}", ".lock", f"{job.id}/", "0" * 16):
        assert jobs.get(name) is None
    (job.folder / "state.json").unlink()  # a submission that was cut off is none
    assert jobs.get(job.id) is None


def test_one_process_makes_them(jobs: Jobs) -> None:
    with jobs.alone() as first, Jobs(jobs.folder).alone() as second:
        assert (first, second) == (True, False)
    with jobs.alone() as later:
        assert later


def test_what_is_not_wanted_is_not_made(jobs: Jobs, tmp_path: Path) -> None:
    job = submit(jobs, tmp_path)
    jobs.cancel(job)
    making.make(job)
    assert job.status.state == "cancelled"
    jobs.remove(job)
    assert jobs.all() == []


def test_a_job_that_cannot_be_made_says_why(jobs: Jobs, tmp_path: Path) -> None:
    job = submit(jobs, tmp_path / "gone")
    making.make(job)
    assert job.status.state == "failed"
    assert "not a model folder" in job.status.message


@pytest.fixture(scope="module")
def model(squares: Path, small_run: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from kinema.train.loop import train

    folder = tmp_path_factory.mktemp("trained") / "run"
    train(small_run, squares, folder)
    return folder


def test_a_video_is_made_with_previews_and_is_the_same_again(jobs: Jobs, model: Path) -> None:
    job = submit(jobs, model, frames=4, seed=3)
    making.make(job)
    status = job.status
    assert (status.state, status.step, status.steps) == ("done", 2, 2)
    assert job.result.is_file()
    assert job.preview.read_bytes()[:2] == b"\xff\xd8"
    assert job.sidecar["seed"] == 3
    before = job.sidecar["latents_sha256"]
    job.say(state="running")  # as after a kill between the video and its word
    making.make(job)
    assert job.sidecar["latents_sha256"] == before
    assert len(jobs.all()) == 1


def test_a_job_can_be_cancelled_between_steps(
    jobs: Jobs, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(jobs, model, frames=4, steps=5)
    taken = []

    def advance(self, steps: int = 1, note: str = "") -> None:
        taken.append(steps)
        if len(taken) == 2:
            jobs.cancel(job)
        original(self, steps, note)

    original = making.Watched.advance
    monkeypatch.setattr(making.Watched, "advance", advance)
    making.make(job)
    assert job.status.state == "cancelled"
    assert len(taken) == 2
    assert not job.result.exists()


def test_nothing_is_started_for_an_empty_queue(jobs: Jobs) -> None:
    maker = Maker(jobs)
    maker.wake()
    assert maker._process is None
    maker.close()


def test_the_status_is_whole_at_any_moment(jobs: Jobs, tmp_path: Path) -> None:
    job = submit(jobs, tmp_path)
    job.say(step=1)
    assert json.loads((job.folder / "state.json").read_text())["step"] == 1
    assert [path.name for path in job.folder.iterdir() if path.name.startswith(".")] == []
