"""Every example of the pages is run, small, in a folder with a little footage.

Blocks run in the order of the page: `bash` (kinema commands; `make` lines are checked against the Makefile
only), `python`, and `csv NAME` or `json NAME`, which writes that file. `<!-- test: skip REASON -->` above a
block leaves it out.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from kinema.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(
    r"(?P<skip><!-- test: skip .+? -->\n+)?^```(?P<language>\w*) ?(?P<name>\S*)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
SMALLER = {
    "train": [
        "steps=2",
        "save_every=2",
        "fit_batches=1",
        "data.batch_size=2",
        "network.depth=1",
        "preview.every=0",
    ],
    "features": ["steps=2", "batch_size=2", "frames=4", "crop=24", "side=32"],
    "ablate": [
        'studies=["motion"]',
        "fractions=[0.0, 0.5]",
        "prompt_count=2",
        "simulated_voters=1",
        "resamples=20",
        "evaluate.bootstraps=2",
        "train.steps=2",
        "train.save_every=2",
        "train.network.depth=1",
        "train.data.batch_size=2",
        "train.preview.steps=2",
    ],
}
"""What is set besides, so that a page's command takes seconds."""

LARGER = ("ablate.md",)
"""Pages whose dataset needs more than two clips."""

MAKING = ("generate", "animate", "extend", "connect", "edit", "interpolate")
"""The commands that sample."""


class Block(NamedTuple):
    language: str
    name: str
    body: str


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks that are not left out."""
    for match in FENCE.finditer(page.read_text(encoding="utf-8")):
        if not match["skip"]:
            yield Block(match["language"], match["name"], match["body"])


def words_of(block: Block) -> list[list[str]]:
    """The words of each command in a bash block."""
    lines = block.body.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def commands(page: Path) -> list[list[str]]:
    return [words for block in blocks(page) if block.language == "bash" for words in words_of(block)]


def smaller(words: list[str]) -> list[str]:
    extra = [argument for key in SMALLER.get(words[1], []) for argument in ("--set", key)]
    if words[1] in MAKING and "--steps" not in words:
        extra = ["--steps", "2"]
    return [*words[1:], *extra]


@pytest.fixture(scope="session")
def furnished(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages speak of: footage, photo.png, dataset, run, samples."""
    from kinema.video.writer import write_image

    desk = tmp_path_factory.mktemp("furnished")
    shutil.copytree(footage, desk / "footage")
    shutil.copytree(footage, desk / "samples")
    write_image(desk / "photo.png", np.full((64, 64, 3), 90, np.uint8))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        assert main(["curate", "footage", "--out", "dataset"]) == 0
        assert main(smaller(["kinema", "train", "demo", "--dataset", "dataset", "--out", "run"])) == 0
    return desk


@pytest.fixture(scope="session")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of eight clips: blobs that cross different pictures at different speeds."""
    from kinema.video.writer import write_video

    desk, random = tmp_path_factory.mktemp("larger"), np.random.default_rng(0)
    for number, name in enumerate(["red", "blue", "green", "wide", "tall", "quick", "slow", "round"]):
        picture = np.kron(random.integers(0, 200, (8, 8, 3), np.uint8), np.ones((12, 12, 1), np.uint8))
        frames = np.repeat(picture[None], 36, axis=0)
        for index, frame in enumerate(frames):
            left = (index * (number + 1) // 4) % 64
            frame[30:60, left : left + 30] = (250, 30 * number, 40)
        (desk / "footage").mkdir(exist_ok=True)
        write_video(desk / "footage" / f"a {name} blob goes right.mp4", frames, fps=24)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        assert main(["curate", "footage", "--out", "dataset"]) == 0
    return desk


@pytest.fixture
def desk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the furnished folder, without what the page itself makes."""
    page: Path = request.getfixturevalue("page")
    made = {words[words.index("--out") + 1] for words in commands(page) if "--out" in words}
    monkeypatch.chdir(tmp_path)
    if not any(block.language in ("bash", "python") for block in blocks(page)):
        return tmp_path
    furniture = "larger" if page.name in LARGER else "furnished"
    for item in request.getfixturevalue(furniture).iterdir():
        if item.name not in made:
            copy = shutil.copytree if item.is_dir() else shutil.copy
            copy(item, tmp_path / item.name)
    return tmp_path


def test_the_readme_has_commands() -> None:
    assert {words[1] for words in commands(ROOT / "README.md") if words[0] == "kinema"} >= {
        "curate",
        "plan",
        "train",
        "generate",
        "animate",
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_of_a_page_run(page: Path, desk: Path) -> None:
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(page):
        match block.language:
            case "bash":
                for words in words_of(block):
                    run_command(words, desk)
            case "python":
                exec(compile(block.body, page.name, "exec", dont_inherit=True), names)
            case "csv" | "json" if block.name:
                (desk / block.name).write_text(block.body, encoding="utf-8")


def run_command(words: list[str], desk: Path) -> None:
    if words[0] == "make":
        dry = ["make", "--dry-run", *words[1:]]
        run = subprocess.run(dry, cwd=ROOT, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        return
    if words[:2] == ["kinema", "studio"]:
        serve_for_a_moment(words[1:])
        return
    assert words[0] == "kinema", f"neither make nor kinema: {shlex.join(words)}"
    assert main(smaller(words)) == 0, shlex.join(words)
    if "--out" in words and "--plan" not in words:
        assert (desk / words[words.index("--out") + 1]).exists()


def serve_for_a_moment(words: list[str]) -> None:
    """Start it on a free port, ask it for its first page, and end it as Ctrl-C does."""
    port = words.index("--port") if "--port" in words else len(words)
    words = [*words[:port], *words[port + 2 :], "--port", "0", "--json"]
    command = [sys.executable, "-m", "kinema", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        local = told["enter"].replace("0.0.0.0", "127.0.0.1")
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with opener.open(local, timeout=60) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_stand_where_they_are_run(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    outside = FENCE.sub(lambda match: "" if match["language"] == "bash" else match[0], text)
    assert not re.findall(r"^(?: {4})?kinema [a-z]+ .*--", outside, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def test_a_skipped_block_and_a_comment_are_left_out(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- test: skip needs a GPU -->\n```bash\nkinema a\n```\n\n```bash\n# b\nkinema c \\\n  d\n```\n"
    )
    assert commands(page) == [["kinema", "c", "d"]]
