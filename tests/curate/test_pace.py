from __future__ import annotations

from kinema.curate.pace import Pace
from kinema.manifest import Source


def test_the_note_tells_rates_time_left_and_failures() -> None:
    now = [100.0]
    pace = Pace(total_bytes=4000, clock=lambda: now[0])
    now[0] += 10
    pace.add(Source(source_id="a", path="a", duration_s=50.0), clips=20, size=1000)
    assert pace.note == "2.0 clips/s, 5.0 h video/h, 0 min 30 s left"
    pace.add(Source(source_id="b", path="b", status="failed"), clips=0, size=0)
    assert pace.note.endswith("left, 1 failed")
    pace.add(Source(source_id="c", path="c", duration_s=50.0), clips=20, size=3000)
    assert pace.note == "4.0 clips/s, 10.0 h video/h, 1 failed"


def test_long_times_are_in_hours() -> None:
    now = [0.0]
    pace = Pace(total_bytes=1000, clock=lambda: now[0])
    now[0] += 100
    pace.add(Source(source_id="a", path="a"), clips=0, size=10)
    assert pace.note.endswith("2 h 45 min left")
