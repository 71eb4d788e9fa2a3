"""Rankings and results as text."""

from __future__ import annotations

from pathlib import Path

from kinema.evaluate.preference import PreferenceConfig, fit_votes
from kinema.evaluate.report import markdown, ranking_text


def test_a_ranking_shows_open_ends_and_warnings(tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    path.write_text("model_a,model_b,outcome\nx,y,a\ny,x,b\n")
    text = ranking_text(fit_votes(path, PreferenceConfig(bootstraps=10, elo_orders=10)))
    assert "## overall: 2 votes, 0% ties" in text
    first = next(line for line in text.splitlines() if line.startswith("| 1 |"))
    assert "| x |" in first
    assert "… open" in first
    assert "Warning: x won every vote, y lost every vote" in text


def test_an_evaluation_without_interval_or_skips() -> None:
    estimate = {"value": 1.5, "low": None, "high": None, "videos": 1}
    result = {
        "videos": 1,
        "skipped": {},
        "notes": [],
        "confidence": 0.9,
        "metrics": {"motion_amount": estimate},
        "protocol": {"most_frames": 3},
    }
    text = markdown(result, ["motion_amount"])
    assert "| motion_amount | 1.5 | - | 1 |" in text
    assert "90 % interval" in text
    assert "Not judged" not in text
