"""Every command in a fenced bash block of the pages is run, small, in a folder with a little footage.

`<!-- test: skip REASON -->` above a block leaves it out. `make` lines are checked against the Makefile only.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from kinema.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"(?P<skip><!-- test: skip .+? -->\n+)?^```bash\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
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
}
"""What is set besides, so that a page's command takes seconds."""


def commands(page: Path) -> list[list[str]]:
    """The words of each command in the page's bash blocks."""
    bodies = [
        match["body"] for match in BLOCK.finditer(page.read_text(encoding="utf-8")) if not match["skip"]
    ]
    lines = "\n".join(bodies).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def smaller(words: list[str]) -> list[str]:
    extra = [argument for key in SMALLER.get(words[1], []) for argument in ("--set", key)]
    if words[1] in ("generate", "animate") and "--steps" not in words:
        extra = ["--steps", "2"]
    return [*words[1:], *extra]


@pytest.fixture
def desk(footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder that the pages speak of: `footage` and `photo.png`."""
    from kinema.video.writer import write_image

    shutil.copytree(footage, tmp_path / "footage")
    write_image(tmp_path / "photo.png", np.full((64, 64, 3), 90, np.uint8))
    monkeypatch.chdir(tmp_path)
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
def test_commands_of_a_page_run(page: Path, desk: Path) -> None:
    for words in commands(page):
        if words[0] == "make":
            run = subprocess.run(
                ["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False
            )
            assert run.returncode == 0, run.stderr
            continue
        assert words[0] == "kinema", f"{page.name}: neither make nor kinema: {shlex.join(words)}"
        assert main(smaller(words)) == 0, shlex.join(words)
        if "--out" in words:
            assert (desk / words[words.index("--out") + 1]).exists()


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
