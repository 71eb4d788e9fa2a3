from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from kinema.studio.config import Limits
from kinema.train.config import TrainConfig
from kinema.video.writer import image_bytes

from .conftest import Opener, form_token


@pytest.fixture(scope="module")
def model(squares: Path, small_run: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from kinema.train.loop import train

    folder = tmp_path_factory.mktemp("trained") / "run"
    train(small_run, squares, folder)
    return folder


@pytest.fixture
def client(studio: Opener, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No process is started: what the pages do is looked at, not the videos."""
    monkeypatch.setattr("kinema.studio.jobs.Maker.wake", lambda self: None)
    shutil.copytree(model, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    return studio(tmp_path / "run", limits=Limits(jobs=3, upload_mb=1))


def filled(client, **fields: str) -> dict[str, str]:
    model = client.app.state.studio.places.models()[0].id
    return {"csrf": form_token(client), "model": model, "task": "text", "prompt": "a <red> square", **fields}


def upload(client, content: bytes):
    return client.post(
        "/generate/uploads?number=3", content=content, headers={"x-csrf-token": form_token(client)}
    )


def test_a_job_goes_to_the_queue_with_everything(client) -> None:
    assert client.post("/generate", data=filled(client, seed="7", frames="4")).status_code == 200
    (job,) = client.app.state.studio.jobs.all()
    assert (job.request["seed"], job.request["frames"], job.status.state) == (7, 4, "queued")
    page = client.get("/generate").text
    assert "a &lt;red&gt; square" in page
    again = client.get(f"/generate?again={job.id}").text
    assert 'name="seed" inputmode="decimal" autocomplete="off" value="7"' in again
    client.post(f"/generate/jobs/{job.id}/cancel", data={"csrf": form_token(client)})
    assert job.cancelled
    job.say(state="cancelled")
    client.post(f"/generate/jobs/{job.id}/remove", data={"csrf": form_token(client)})
    assert client.app.state.studio.jobs.all() == []


def test_what_does_not_fit_is_refused_before_it_is_queued(client) -> None:
    answer = client.post("/generate", data=filled(client, task="animate"), headers={"hx-request": "true"})
    assert answer.status_code == 400
    assert "drop a picture" in answer.text
    for _ in range(3):
        assert client.post("/generate", data=filled(client)).status_code == 200
    assert client.post("/generate", data=filled(client)).status_code == 400  # the queue is full
    assert len(client.app.state.studio.jobs.all()) == 3


def test_an_upload_has_a_row_and_a_place_on_the_timeline(client) -> None:
    answer = upload(client, image_bytes(np.full((32, 32, 3), 99, np.uint8)))
    assert answer.status_code == 200
    upload_id = re.search(r'name="item.3.upload" value="(\w+)"', answer.text)[1]
    assert client.get(f"/generate/uploads/{upload_id}.png").status_code == 200
    assert client.get(f"/generate/uploads/{upload_id}.jpg").content[:2] == b"\xff\xd8"
    form = filled(client) | {"item.3.upload": upload_id, "item.3.at": "1"}
    line = client.post("/generate/timeline", data=form, headers={"hx-request": "true"}).text
    assert "4 frames: 1 given, 0 edited, 0 carried over, 3 made" in line
    wrong = client.post(
        "/generate/timeline", data=form | {"item.3.at": "77"}, headers={"hx-request": "true"}
    ).text
    assert "at is 77" in wrong
    assert upload_id not in wrong


@pytest.mark.parametrize(
    "content", [b"nothing of the kind", b"\x89PNG\r\n\x1a\n" + b"junk" * 20, b"\0\0\0\x18ftypmp42"]
)
def test_malformed_uploads_are_refused(client, content: bytes, tmp_path: Path) -> None:
    assert upload(client, content).status_code == 400
    assert list((tmp_path / "made" / "uploads").iterdir()) == []


def test_oversized_and_foreign_uploads_are_refused(client, tmp_path: Path) -> None:
    assert upload(client, b"\x89PNG\r\n\x1a\n" + bytes(2 << 20)).status_code == 413
    assert client.post("/generate/uploads", content=b"\x89PNG").status_code == 403
    assert list((tmp_path / "made" / "uploads").iterdir()) == []


@pytest.mark.parametrize(
    "path",
    [
        "/generate/uploads/..%2f..%2f.key.png",
        "/generate/jobs/..%2f..%2f/.key",
        "/generate/jobs/{id}/..%2frequest.json",
        "/generate/jobs/{id}/request.json",
        "/generate/jobs/{id}/state.json",
    ],
)
def test_no_path_of_a_visitor_is_opened(client, path: str) -> None:
    client.post("/generate", data=filled(client))
    job = client.app.state.studio.jobs.all()[0].id
    assert client.get(path.replace("{id}", job)).status_code == 404


@pytest.mark.slow
def test_a_video_is_made_by_a_process_of_its_own(studio: Opener, model: Path) -> None:
    client = studio(model)
    client.post("/generate", data=filled(client, frames="4", steps="2"))
    (job,) = client.app.state.studio.jobs.all()
    deadline = time.monotonic() + 120
    while job.status.state not in ("done", "failed") and time.monotonic() < deadline:
        time.sleep(0.2)
    assert job.status.state == "done", job.status
    assert client.get(f"/generate/jobs/{job.id}/video.mp4").headers["content-type"] == "video/mp4"
    assert "All parameters" in client.get("/generate").text


def test_the_model_that_comes_with_kinema_is_always_there(
    studio: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinema.studio.jobs.Maker.wake", lambda self: None)
    client = studio()
    assert "No folder is open" in client.get("/").text
    page = client.get("/generate").text
    assert "small world of moving shapes" in page
    assert "16 frames" in page or "16 made" in page
    form = {"csrf": form_token(client), "task": "text", "prompt": "a red star moves left"}
    assert client.post("/generate", data=form).status_code == 200
    (job,) = client.app.state.studio.jobs.all()
    assert job.request["prompt"] == "a red star moves left"
    assert "small world" not in client.get("/runs").text
    refused = client.post("/generate", data=form | {"model": "elsewhere"})
    assert refused.status_code == 404


def test_a_model_of_ones_own_comes_first(client) -> None:
    names = [place.name for place in client.app.state.studio.places.models()]
    assert names == ["run", "kinema's own: a small world of moving shapes"]
