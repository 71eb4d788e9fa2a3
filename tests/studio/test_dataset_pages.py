from __future__ import annotations

from pathlib import Path

import pytest

from kinema.curate.filters import Bounds, FilterConfig
from kinema.curate.refilter import filters_of, refilter
from kinema.manifest import read_clips
from kinema.studio.pages import large, part
from kinema.video.reader import probe

from .conftest import Opener, form_token, place_id


@pytest.fixture
def client(studio: Opener, copied: Path):
    return studio(copied)


@pytest.fixture
def base(client) -> str:
    return f"/data/{place_id(client, 'dataset')}"


def test_the_grid_shows_and_searches(client, base: str) -> None:
    page = client.get(base)
    assert page.status_code == 200
    assert page.text.count('class="card') == 2
    assert client.get("/data").url.path == base
    assert client.get(f"{base}?q=blue").text.count('class="card') == 1
    fragment = client.get(f"{base}?kept=dropped", headers={"hx-request": "true"}).text
    assert "No clip fits" in fragment
    assert "<html" not in fragment


def test_a_clip_plays_and_can_be_sought_in(client, base: str, copied: Path, tmp_path: Path) -> None:
    clip = read_clips(copied)[0]
    address = f"{base}/media/{clip.clip_id}.mp4"
    whole = client.get(address)
    assert whole.headers["content-type"] == "video/mp4"
    part = client.get(address, headers={"range": "bytes=100-199"})
    assert part.status_code == 206
    assert part.headers["content-range"] == f"bytes 100-199/{len(whole.content)}"
    assert part.content == whole.content[100:200]
    assert client.get(address, headers={"range": "bytes=999999999-"}).status_code == 416
    saved = tmp_path / "clip.mp4"
    saved.write_bytes(whole.content)
    assert probe(saved).frames == clip.frames
    assert len(list((tmp_path / "cache").rglob("*.mp4"))) == 1


def test_a_picture_is_cut_where_there_is_none(client, base: str, copied: Path) -> None:
    clip = read_clips(copied)[0]
    assert client.get(f"{base}/media/{clip.clip_id}.jpg").content[:2] == b"\xff\xd8"
    (copied / "thumbnails" / f"{clip.clip_id}.jpg").unlink()
    assert client.get(f"{base}/media/{clip.clip_id}.jpg").content[:2] == b"\xff\xd8"


def test_footage_that_is_gone_is_said_in_one_line(client, base: str, copied: Path) -> None:
    import shutil
    from dataclasses import replace

    from kinema.manifest import write_clips

    clip = read_clips(copied)[0]
    lost = replace(clip, clip_id="0" * 16, source_path="/gone/lost.mp4", start_s=0.5)
    write_clips(copied, "lost", [lost])
    shutil.rmtree(copied / "thumbnails")
    client.app.state.studio.index(client.app.state.studio.places.all("dataset")[0]).refresh(now=True)
    answer = client.get(f"{base}/media/{'0' * 16}.mp4")
    assert answer.status_code == 400
    assert "/gone/lost.mp4: no such file" in answer.text


def test_a_caption_is_kept_beside_the_others(client, base: str, copied: Path) -> None:
    clip = read_clips(copied)[0]
    here = f"{base}/clip/{clip.clip_id}"
    for text in ("one  wet\nstreet", "another street"):
        form = {"text": text, "csrf": form_token(client)}
        assert client.post(f"{here}/caption", data=form).status_code == 200
    captions = read_clips(copied)[0].captions
    assert [(item.kind, item.text) for item in captions if item.kind == "human"] == [
        ("human", "another street")
    ]
    assert len(list((copied / "captions").iterdir())) == 2  # both are in the ledger
    assert "another street" in client.get(here).text
    assert client.get(f"{base}?q=another+street").text.count('class="card') == 1
    empty = client.post(f"{here}/caption", data={"text": " ", "csrf": form_token(client)})
    assert empty.status_code == 400


def test_a_verdict_holds_through_filtering_and_is_taken_back(client, base: str, copied: Path) -> None:
    clip = read_clips(copied)[0]
    here = f"{base}/clip/{clip.clip_id}"

    def say(answer: str, reason: str = "") -> None:
        form = {"verdict": answer, "reason": reason, "csrf": form_token(client)}
        assert client.post(f"{here}/verdict", data=form).status_code == 200

    say("drop", "watermark")
    assert read_clips(copied)[0].drop_reasons == ("by hand: watermark",)
    assert "by hand: watermark" in client.get(f"{base}?kept=dropped").text
    refilter(copied, FilterConfig(motion_score=Bounds(min=1e6)))
    say("keep")
    assert read_clips(copied)[0].kept
    say("filters")
    assert read_clips(copied)[0].drop_reasons == ("motion_score < 1e+06",)


def test_moving_a_threshold_counts_and_writes_nothing(client, base: str, copied: Path) -> None:
    before = read_clips(copied)
    form = {"motion_score.min": "100000", "moved": "motion_score.min", "csrf": form_token(client)}
    shown = client.post(f"{base}/filters/preview", data=form, headers={"hx-request": "true"}).text
    assert "<b>0</b> of 2 clips remain" in shown
    assert "Apply to 2 clips" in shown
    assert shown.count('class="card') == 2  # both sit at the border
    assert read_clips(copied) == before
    wrong = client.post(
        f"{base}/filters/preview", data=form | {"fps.min": "x"}, headers={"hx-request": "true"}
    )
    assert wrong.status_code == 400
    assert "&#39;x&#39; is no number" in wrong.text


def test_thresholds_are_applied_and_undone(client, base: str, copied: Path) -> None:
    before = filters_of(copied)
    form = {"motion_score.min": "100000", "near_duplicates": "on", "csrf": form_token(client)}
    assert client.post(f"{base}/filters/apply", data=form).status_code == 200
    assert not any(clip.kept for clip in read_clips(copied))
    assert filters_of(copied).motion_score.min == 100000
    client.post(f"{base}/filters/undo", data={"csrf": form_token(client)})
    assert all(clip.kept for clip in read_clips(copied))
    assert filters_of(copied) == before


def test_numbers_and_places_in_words() -> None:
    assert [large(12), large(1.6875), large(2_547_578_880), large(3.1e13)] == [
        "12",
        "1.69",
        "2.55e9",
        "3.10e13",
    ]
    assert part("0.0000,0.1250,1.0000,0.8750") == "0 to 100 % across, 12 to 88 % down"
