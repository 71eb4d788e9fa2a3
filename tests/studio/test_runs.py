from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from kinema.files import write_text
from kinema.studio.runs import Curves, differences, log_tails, plan_tables, previews, spread, vitals
from kinema.video.writer import write_image, write_video

from .conftest import Opener, place_id


def rows(folder: Path, steps: range, **more: object) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        for step in steps:
            file.write(json.dumps({"step": step, "loss": 1 / (step + 1), "bucket": "x", **more}) + "\n")


def beat(folder: Path, **facts: object) -> None:
    write_text(folder / "heartbeat.json", json.dumps(facts))


def test_curves_grow_and_begin_anew_after_a_resume(tmp_path: Path) -> None:
    curves = Curves(tmp_path)
    curves.refresh()
    assert curves.names() == []
    rows(tmp_path, range(3), loss_by_noise={"0": 0.5})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')  # being written
    curves.refresh()
    assert curves.series("loss") == ([0, 1, 2], [1.0, 0.5, pytest.approx(1 / 3)])
    assert curves.series("loss_by_noise.0")[1] == [0.5] * 3
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('ss": 9.0}\n')
    curves.refresh()
    assert curves.series("loss")[1][-1] == 9.0
    whole = (tmp_path / "metrics.jsonl").read_text().splitlines()[:2]
    write_text(tmp_path / "metrics.jsonl", "\n".join(whole) + "\n")  # as resuming does: another file
    curves.refresh()
    assert curves.series("loss")[0] == [0, 1]
    assert curves.last["step"] == 1


def test_long_curves_are_averaged_and_keep_their_mean(tmp_path: Path) -> None:
    rows(tmp_path, range(10_000))
    curves = Curves(tmp_path)
    curves.refresh()
    steps, values = curves.series("loss")
    assert len(steps) == 600
    assert steps == sorted(steps)
    assert np.mean(values) == pytest.approx(np.mean([1 / (step + 1) for step in range(10_000)]), rel=0.02)


def test_what_is_not_a_number_is_a_gap(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 0, "loss": NaN}\n{"step": 1, "loss": 2}\nnonsense\n[1]\n'
    )
    curves = Curves(tmp_path)
    curves.refresh()
    assert curves.series("loss") == ([0, 1], [None, 2.0])


@pytest.mark.parametrize(
    ("facts", "state", "cause"),
    [
        ({}, "no sign", ""),
        ({"state": "running", "pid": os.getpid()}, "running", ""),
        ({"state": "running", "pid": os.getpid(), "time": 1000.0}, "silent", ""),
        ({"state": "running", "pid": 2**22 + 5, "time": 1000.0}, "died", "its process is gone"),
        ({"state": "running", "time": 1000.0}, "died", "its process is gone"),
        ({"state": "died", "rank": 1, "cause": "SIGKILL", "message": ""}, "died", "rank 1: SIGKILL"),
        ({"state": "failed", "cause": "loss is nan"}, "failed", "loss is nan"),
        ({"state": "done", "step": 7}, "done", ""),
        ({"state": "??"}, "no sign", ""),
    ],
)
def test_signs_of_life(tmp_path: Path, facts: dict[str, object], state: str, cause: str) -> None:
    beat(tmp_path, **({"time": time.time()} | facts if facts else {}))
    found = vitals(tmp_path)
    assert found.state == state
    assert cause in found.cause
    assert bool(found.cause) == bool(cause)


def test_a_folder_without_anything_has_no_sign(tmp_path: Path) -> None:
    assert vitals(tmp_path).state == "no sign"
    (tmp_path / "heartbeat.json").write_text("{")
    assert vitals(tmp_path).state == "no sign"
    assert previews(tmp_path) == []
    assert plan_tables(tmp_path) == []
    assert log_tails(tmp_path) == []


def test_settings_are_compared_by_key() -> None:
    tables = [{"steps": 4, "optim": {"lr": 0.1}}, {"steps": 4, "optim": {"lr": 0.2}, "seed": 1}]
    assert differences(tables) == [("optim.lr", ["0.1", "0.2"]), ("seed", ["", "1"])]


def test_steps_are_spread_with_both_ends() -> None:
    assert spread(list(range(100)), 3) == [0, 50, 99]
    assert spread([1, 2], 3) == [1, 2]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    rows(folder, range(5))
    beat(folder, state="died", step=5, pid=1, time=time.time(), cause="SIGKILL", message="out of memory")
    write_text(folder / "resolved.toml", "steps = 10\n")
    write_text(folder / "plan.json", json.dumps({"kept": 2, "rows": [{"bucket": "32px", "clips": 2}]}))
    write_text(folder / "train.log", "begun\n<b>ended</b>\n")
    for step in (2, 4):
        path = folder / "samples" / f"step-{step:08d}-0.mp4"
        write_video(path, np.zeros((2, 16, 16, 3), np.uint8), fps=8)
        write_text(path.with_name(path.name + ".json"), '{"prompt": "a red square"}')
    return folder


def test_a_run_has_its_page(studio: Opener, run: Path) -> None:
    client = studio(run)
    page = client.get("/runs").text
    address = page.partition('href="/runs/')[2].partition('"')[0]
    page = client.get(f"/runs/{address}").text
    for words in (
        "SIGKILL: out of memory",
        "step 5 of 10",
        "a red square",
        "32px",
        "&lt;b&gt;ended",
        "steps = 10",
    ):
        assert words in page
    assert client.get(f"/runs/{address}/samples/step-00000004-0.mp4").headers["content-type"] == "video/mp4"
    for name in ("..%2fresolved.toml", "step-00000009-0.mp4", "step-00000004-0.mp4.json"):
        assert client.get(f"/runs/{address}/samples/{name}").status_code == 404
    assert "SIGKILL" in client.get(f"/runs/{address}/vitals", headers={"hx-request": "true"}).text


def test_a_run_shows_what_its_network_gets_to_see(studio: Opener, run: Path) -> None:
    client = studio(run)
    address = f"/runs/{place_id(client, 'run')}"
    assert f"{address}/sheet" not in client.get(address).text
    assert client.get(f"{address}/sheet").status_code == 404
    write_image(run / "plan.png", np.zeros((8, 8, 3), np.uint8))
    assert f'src="{address}/sheet"' in client.get(address).text
    assert client.get(f"{address}/sheet").headers["content-type"] == "image/png"


def test_a_plan_is_written_for_people(studio: Opener, run: Path) -> None:
    plan = {"warnings": ["too few clips", "no video"], "measured": {"seconds": 0.094486884}}
    write_text(run / "plan.json", json.dumps(plan | {"rows": [{"flops": 2547578880, "clips": 13.5}]}))
    client = studio(run)
    page = client.get(f"/runs/{place_id(client, 'run')}").text
    for words in ("too few clips\nno video", "seconds: 0.09449", "<td>2.55e9</td>", "<td>13.5</td>"):
        assert words in page


def test_previews_of_pictures_are_pictures(studio: Opener, run: Path) -> None:
    write_image(run / "samples" / "step-00000004-1.png", np.zeros((8, 8, 3), np.uint8))
    client = studio(run)
    address = f"/runs/{place_id(client, 'run')}"
    for page in (client.get(address).text, client.get("/runs").text):
        assert f'<img src="{address}/samples/step-00000004-1.png"' in page
        assert f'<video src="{address}/samples/step-00000004-0.mp4"' in page


def test_runs_are_compared(studio: Opener, run: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(run, tmp_path / "other")
    write_text(tmp_path / "other" / "resolved.toml", "steps = 20\n")
    client = studio(run, tmp_path / "other")
    ids = [place.id for place in client.app.state.studio.places.all("run")]
    page = client.get("/runs", params={"run": ids}).text
    assert "Settings that differ" in page
    found = client.get("/runs/series", params={"run": ids, "name": "loss"}).json()
    assert [len(item["x"]) for item in found["runs"]] == [5, 5]
    assert client.get("/runs/series", params={"run": "nothing"}).status_code == 404
