from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from kinema.checkpoint import as_record
from kinema.encoders.latent_frames import TimeGrid
from kinema.errors import ConfigError
from kinema.generate.tasks import Animate, Connect, Edit, Extend, FromText, Interpolate
from kinema.motion import CameraMove
from kinema.nn import VideoUNetConfig
from kinema.nn.video_unet import Condition
from kinema.studio.generate_pages import CAMERAS
from kinema.studio.requests import ModelFacts, config_of_form, task_of_form, timeline
from kinema.studio.uploads import Upload
from kinema.video.writer import write_image, write_video

FACTS = ModelFacts(height=32, width=32, frames=8, fps=8.0, steps=4, guidance_scale=1.0, grid=TimeGrid(1))


@pytest.fixture(scope="module")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Upload]:
    folder = tmp_path_factory.mktemp("uploads")
    write_image(folder / "p.png", np.zeros((32, 32, 3), np.uint8))
    write_video(folder / "c.mp4", np.zeros((16, 32, 32, 3), np.uint8), fps=8)
    return {"p": Upload("p", folder / "p.png"), "c": Upload("c", folder / "c.mp4")}


def form(task: str, *names: str, **fields: str) -> dict[str, str]:
    items = {f"item.{number}.upload": name for number, name in enumerate(names)}
    return {
        "task": task,
        "prompt": "a square",
        **items,
        **{key.replace("__", "."): v for key, v in fields.items()},
    }


def test_every_task_is_read(uploads: dict[str, Upload]) -> None:
    p, c = uploads["p"].path, uploads["c"].path
    cases = {
        "animate": (("p",), Animate(image=p)),
        "orbit": (("p",), Animate(image=p)),
        "extend": (("c",), Extend(clip=c)),
        "connect": (("c", "p"), Connect(start=c, end=p)),
        "edit": (("c",), Edit(clip=c, strength=0.6)),
        "interpolate": (("p", "p"), Interpolate(sources=(p, p))),
        "text": ((), FromText()),
    }
    for task, (names, expected) in cases.items():
        assert task_of_form(form(task, *names), uploads.get) == expected


def kinds(config, facts: ModelFacts = FACTS) -> list[list[str]]:
    return [[frame.kind for frame in frames] for _, frames in timeline(config, facts).windows]


def test_the_timeline_is_what_the_samplers_get(uploads: dict[str, Upload]) -> None:
    placed = form("text", "c", item__0__at="2", item__0__frames="3", item__0__strength="0.5")
    line = timeline(config_of_form(placed, uploads.get), FACTS)
    assert [frame.kind for frame in line.windows[0][1]] == ["made"] * 2 + ["edited"] * 3 + ["made"] * 3
    assert line.windows[0][1][2].strength == 0.5
    extended = timeline(config_of_form(form("extend", "c"), uploads.get), FACTS)
    assert (extended.before, extended.count("given"), extended.count("made")) == (14, 2, 6)
    animated = config_of_form(form("animate", "p"), uploads.get)
    assert kinds(animated) == [["given"] + ["made"] * 7]
    between = config_of_form(form("interpolate", "p", "p", factor="3"), uploads.get)
    assert kinds(between) == [["given", "made", "made", "given"]]
    long = config_of_form(form("text", segments="2", overlap="3"), uploads.get)
    assert kinds(long) == [["made"] * 8, ["carried"] * 3 + ["made"] * 5]
    assert kinds(config_of_form(form("text", frames="1"), uploads.get)) == [["made"]]


def test_a_camera_is_read_for_the_tasks_that_show_it(uploads: dict[str, Upload]) -> None:
    assert config_of_form(form("text", camera="zoom_in"), uploads.get).camera == "zoom_in"
    assert config_of_form(form("animate", "p", camera="pan_left"), uploads.get).camera == "pan_left"
    assert config_of_form(form("extend", "c", camera="pan_left"), uploads.get).camera is None
    assert config_of_form(form("text", camera=""), uploads.get).camera is None
    looped = config_of_form(form("text", camera="zoom_in", loop="on"), uploads.get)
    with pytest.raises(ConfigError, match="without loop or references"):
        timeline(looped, FACTS)
    assert get_args(CameraMove) == CAMERAS
    with pytest.raises(ConfigError, match="camera must be one of"):
        config_of_form(form("text", camera="<b>"), uploads.get)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"task": "fly"}, "'fly' is no task"),
        ({"task": "animate"}, "drop a picture"),
        ({"task": "connect", "item.0.upload": "p"}, "drop two"),
        ({"item.0.upload": "gone"}, "no longer here"),
        ({"frames": "1e9"}, "frames is a whole number"),
        ({"frames": "100000"}, "at most 1000"),
        ({"guidance_scale": "inf"}, "guidance is a number"),
        ({"prompt": " "}, "prompt is empty"),
        ({"item.0.upload": "p", "item.0.at": "99"}, "at is 99"),
        ({"task": "edit", "item.0.upload": "c", "fill": "a-b"}, "no span of frames"),
    ],
)
def test_what_does_not_fit_is_said(uploads: dict[str, Upload], fields: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        timeline(config_of_form(form("text") | fields, uploads.get), FACTS)


def test_facts_are_read_without_loading_the_model(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text(
        '[autoencoder]\nkind = "cogvideox"\n[sampling]\nheight = 8\nwidth = 8\nframes = 9\nfps = 8.0\n'
        "steps = 4\nguidance_scale = 4.0\nguidance_given = 1.0\n[network]\nfolder = 'network'\n"
    )
    (tmp_path / "network").mkdir()
    unet = VideoUNetConfig(in_channels=9)
    (tmp_path / "network" / "config.json").write_text(json.dumps(as_record(unet)))
    assert ModelFacts.of(tmp_path).network == unet
    assert ModelFacts.of(tmp_path).grid == TimeGrid(4)
    assert ModelFacts.of(tmp_path).guidance_hint == "4; given 1"
    assert FACTS.guidance_hint == "1"


def of_network(in_channels: int, *conditions: str) -> ModelFacts:
    network = VideoUNetConfig(
        in_channels=in_channels, conditions=tuple(Condition(name=n) for n in conditions)
    )
    return replace(FACTS, network=network)


def test_an_orbit_begins_with_the_picture_and_is_guided_in_its_middle(uploads: dict[str, Upload]) -> None:
    asked = form("orbit", "p", elevation="12.5", segments="3", loop="on", prompt="")
    config = config_of_form(asked, uploads.get)
    assert (config.elevation, config.guidance_shape, config.guidance_first) == (12.5, "triangle", 1.0)
    assert kinds(config, of_network(8, "fps", "elevation")) == [["given"] + ["made"] * 7]
    with pytest.raises(ConfigError, match="not taught elevations"):
        timeline(config, of_network(8, "fps"))
    assert kinds(config_of_form(form("orbit", "p"), uploads.get), of_network(8)) == kinds(
        config_of_form(form("animate", "p"), uploads.get)
    )


def test_a_model_is_asked_only_what_it_was_made_for(uploads: dict[str, Upload]) -> None:
    assert (of_network(4).tasks[0], of_network(4).needs_prompt) == ("text", True)
    assert (of_network(8).tasks, of_network(8).needs_prompt) == (("animate", "orbit"), False)
    assert of_network(9).tasks == ("interpolate",)
    with pytest.raises(ConfigError, match="moves a picture"):
        timeline(config_of_form(form("edit", "c"), uploads.get), of_network(8))
    with pytest.raises(ConfigError, match="6 frames between two"):
        timeline(config_of_form(form("interpolate", "c"), uploads.get), of_network(9))
