from __future__ import annotations

from pathlib import Path

import pytest

from kinema.curate.filters import Bounds, FilterConfig
from kinema.curate.refilter import refilter
from kinema.curate.verdicts import VERDICTS, Verdict, add_verdict, read_verdicts
from kinema.errors import DatasetError
from kinema.manifest import read_clips


def test_the_last_verdict_holds_and_can_be_taken_back(tmp_path: Path) -> None:
    for kept in (True, False):
        add_verdict(tmp_path, Verdict(clip_id="a", kept=kept, reason="logo"))
    assert read_verdicts(tmp_path)["a"].drop_reason == "by hand: logo"
    add_verdict(tmp_path, Verdict(clip_id="a", kept=None))
    assert read_verdicts(tmp_path) == {}


def test_a_line_that_was_not_finished_costs_only_itself(tmp_path: Path) -> None:
    add_verdict(tmp_path, Verdict(clip_id="a", kept=True))
    with (tmp_path / VERDICTS).open("a") as file:
        file.write('{"clip_id": "b", "ke')
    add_verdict(tmp_path, Verdict(clip_id="c", kept=False))
    assert set(read_verdicts(tmp_path)) == {"a", "c"}


def test_a_strange_line_is_named(tmp_path: Path) -> None:
    (tmp_path / VERDICTS).write_text('{"clip": "a"}\n')
    with pytest.raises(DatasetError, match=r"delete the line .*clip"):
        read_verdicts(tmp_path)


def test_filtering_again_respects_what_people_said(squares: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "dataset"
    shutil.copytree(squares, folder)
    first, second = (clip.clip_id for clip in read_clips(folder))
    add_verdict(folder, Verdict(clip_id=first, kept=True))
    add_verdict(folder, Verdict(clip_id=second, kept=False, reason="logo"))
    summary = refilter(folder, FilterConfig(duration_s=Bounds(min=10.0)))
    rows = {clip.clip_id: clip for clip in read_clips(folder)}
    assert rows[first].kept
    assert rows[first].drop_reasons == ()
    assert rows[second].drop_reasons == ("duration_s < 10", "side < 64", "by hand: logo")
    assert (summary.kept, summary.dropped["by hand"]) == (1, 1)
