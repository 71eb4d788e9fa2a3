from __future__ import annotations

from pathlib import Path

from kinema.curate.analysis import AnalysisConfig, analyse, source_id


def test_what_may_be_different_next_time_is_told_apart(tmp_path: Path, made: Path) -> None:
    gone = analyse(tmp_path / "gone.mp4", AnalysisConfig(), threads=1).source
    assert (gone.status, gone.source_id) == ("unreadable", source_id(tmp_path / "gone.mp4"))
    assert "No such file" in gone.reason
    broken = analyse(made / "broken.mp4", AnalysisConfig(), threads=1)
    assert (broken.source.status, broken.clips, broken.decodes) == ("failed", [], 1)
    assert broken.source.reason.startswith("is not a video or image")


def test_the_row_holds_what_was_decoded(made: Path) -> None:
    found = analyse(made / "two_shots.mp4", AnalysisConfig(), threads=1)
    row = found.source
    assert (row.status, row.frames, row.width, row.height, row.codec) == ("done", 100, 160, 90, "h264")
    assert (row.fps, row.duration_s) == (20.0, 5.0)
    assert found.decodes == 1
    assert all(content.startswith(b"\xff\xd8") for content in found.thumbnails.values())
