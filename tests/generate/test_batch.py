from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kinema.errors import ConfigError
from kinema.generate.batch import generate_all
from kinema.generate.pipeline import GenerateConfig, generate
from kinema.generate.prompts import read_prompts
from kinema.progress import Silent
from kinema.video.reader import probe, read_frames

SMALL: dict[str, Any] = {"steps": 2, "frames": 3}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def run(model: Path, prompts: Path, out: Path, **values: Any) -> dict[str, Any]:
    lines = read_prompts(prompts, SMALL | values)
    return generate_all(model, lines, out, batch_size=2, progress=Silent())


def hashes(folder: Path) -> list[str]:
    return [json.loads(path.read_text())["latents_sha256"] for path in sorted(folder.glob("*.json"))]


def test_a_line_is_a_video(model: Path, tmp_path: Path) -> None:
    prompts = write(tmp_path / "prompts.txt", "a red square moves\n\na green square moves\n|0|red\n")
    summary = run(model, prompts, tmp_path / "out")
    assert summary["files"] == ["000.mp4", "001.mp4", "002.mp4"]
    assert (summary["made"], summary["already_there"], summary["batches"]) == (3, 0, 2)
    assert probe(tmp_path / "out/001.mp4").frames == 3
    assert len(set(hashes(tmp_path / "out"))) == 3
    record = json.loads((tmp_path / "out/001.mp4.json").read_text())
    assert (record["prompt"], record["batch"]) == ("a green square moves", 2)


def test_a_stopped_run_goes_on(model: Path, tmp_path: Path) -> None:
    prompts = write(tmp_path / "prompts.txt", "red\ngreen\nsquare\n")
    out = tmp_path / "out"
    run(model, prompts, out)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.mp4")}
    (out / "001.mp4").unlink()
    write(out / "002.mp4.json", "{")
    summary = run(model, prompts, out)
    assert (summary["made"], summary["already_there"]) == (2, 1)
    assert (out / "000.mp4").stat().st_mtime_ns == before["000.mp4"]
    assert run(model, prompts, out)["made"] == 0
    assert run(model, prompts, out, seed=1)["made"] == 3


def test_a_reference_that_changed_is_read_again(
    model: Path, tmp_path: Path, pictures: tuple[Path, Path]
) -> None:
    picture = tmp_path / "first.png"
    picture.write_bytes(pictures[0].read_bytes())
    prompts = write(tmp_path / "prompts.csv", f"prompt,image\nred,{picture}\n")
    run(model, prompts, tmp_path / "out")
    picture.write_bytes(pictures[1].read_bytes())
    assert run(model, prompts, tmp_path / "out")["made"] == 1


def test_columns_set_what_a_row_wants(
    model: Path, tmp_path: Path, clip: Path, pictures: tuple[Path, Path]
) -> None:
    dark, light = pictures
    table = (
        "prompt,seed,frames,height,width,guidance_scale,image,references,mask_strategy,segments,overlap\n"
        f'"a square, red",7,,40,24,3.5,,,,,\n'
        f"green,,4,,,,{dark},,,,\n"
        f'red,,4,,,,,{dark};{light},"0;0,1,0,-1,1",,\n'
        f'red,,5,,,,,{clip},"0,0,0,0,4,0.5",,\n'
        "red,,1,,,,,,,,\n"
        "|0|red|1|green,,,,,,,,,2,1\n"
    )
    summary = run(model, write(tmp_path / "p.csv", table), tmp_path / "out")
    assert summary["files"][4] == "004.png"
    records = [json.loads((tmp_path / "out" / f"{name}.json").read_text()) for name in summary["files"]]
    first = records[0]
    assert [first[name] for name in ("prompt", "seed", "height", "width", "guidance_scale")] == [
        "a square, red",
        7,
        40,
        24,
        3.5,
    ]
    assert [record["task"] for record in records] == [
        "text-to-video",
        "image-to-video",
        "references",
        "references",
        "text-to-image",
        "text-to-video",
    ]
    assert [Path(item["path"]).name for item in records[2]["references"]] == ["dark.png", "light.png"]
    assert records[5]["frames_written"] == 3 + 2


def test_a_row_is_what_it_is_alone(model: Path, tmp_path: Path) -> None:
    """To rounding, that is: the videos are the same."""
    prompts = write(tmp_path / "p.csv", "prompt,seed\nred,1\na green square moves,2\n")
    run(model, prompts, tmp_path / "out")
    alone = GenerateConfig(prompt="a green square moves", seed=2, **SMALL)
    generate(model, alone, tmp_path / "alone.mp4", Silent())
    times = [index / 6 for index in range(3)]
    beside = read_frames(tmp_path / "out/001.mp4", times).astype(int)
    assert abs(beside - read_frames(tmp_path / "alone.mp4", times)).max() <= 8


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("p.csv", "prompt,seed\na,1\nb,x\n", r"p\.csv, line 3, column seed: 'x' is not a whole number"),
        ("p.csv", "prompt,frames\na,0\n", r"line 2, column frames: frames must be above 0"),
        ("p.csv", "prompt,image\na,no.png\n", r"line 2, column image: image no\.png does not exist"),
        ("p.csv", "prompt,references\na,no.png\n", r"column references: reference no\.png does not exist"),
        ("p.csv", "prompt,mask_strategy\na,0\n", r"column mask_strategy: a mask strategy needs files"),
        ("p.csv", "prompt,sead\na,1\n", r"line 1: unknown column 'sead'; known are prompt, seed"),
        ("p.csv", "text\na\n", r"line 1: unknown column 'text'"),
        ("p.csv", "seed\n1\n", r"line 1: no column 'prompt'"),
        (
            "p.csv",
            "prompt,camera\na,roll\n",
            r"line 2, column camera: 'roll' is not a camera move; known are static",
        ),
        ("p.csv", "prompt,seed\na, b,1\n", r"line 2: 2 columns are expected; quote"),
        ("p.csv", "prompt,seed\n,1\n", r"line 2, column prompt: the cell is empty"),
        ("p.txt", 'a\nb{"mask": "0"}\n', r"line 2, column prompt: the JSON .* has 'mask'"),
        ("p.txt", "\n", "holds no prompt"),
        ("p.toml", "a", r"read from \.txt"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, name: str, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_prompts(write(tmp_path / name, text), {})


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.txt: No such file"):
        read_prompts(tmp_path / "none.txt", {})
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_prompts(tmp_path / "b.txt", {})


def test_what_only_the_model_can_tell_names_the_line_too(model: Path, tmp_path: Path, clip: Path) -> None:
    prompts = write(tmp_path / "p.csv", f'prompt,references,mask_strategy\nred,{clip},"0,0,0,0,9"\n')
    with pytest.raises(
        ConfigError, match=r"line 2: reference clip\.mp4: 9 frames at 0 end past the output's 3"
    ):
        run(model, prompts, tmp_path / "out")
