from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kinema.curate.filters import Bounds, FilterConfig
from kinema.curate.overlay_text import TextConfig
from kinema.curate.pipeline import CurateConfig, curate
from kinema.curate.storage import StorageConfig, training_size
from kinema.dataset.config import DataConfig
from kinema.dataset.loader import iterate_batches
from kinema.dataset.store import kept_clips, source_file
from kinema.manifest import Clip, read_clips
from kinema.video.reader import decode, probe, read_frames

HERE = CurateConfig(workers=0, text=TextConfig(detect="off"), filters=FilterConfig(near_duplicates=False))
SHARDS = replace(HERE, storage=StorageConfig(mode="transcode", side=64, shard_mb=1))
COPIES = replace(HERE, storage=StorageConfig(mode="copy"))


def rows(out: Path) -> dict[str, Clip]:
    return {f"{Path(c.source_path).name}@{c.start_frame}": c for c in read_clips(out)}


def pixels(out: Path, clip: Clip, times_s: list[float]) -> np.ndarray:
    return read_frames(source_file(out, clip), times_s).astype(int)


def test_shards_hold_the_kept_clips_at_training_size(made: Path, tmp_path: Path) -> None:
    summary = curate([made], tmp_path / "out", SHARDS)
    assert (summary.kept, summary.stored, summary.not_stored) == (3, 3, {})
    clips = rows(tmp_path / "out")
    assert clips["still.mp4@0"].shard is None
    second = clips["two_shots.mp4@40"]
    assert (second.shard, second.stored_frames, second.stored_height, second.stored_width) == (
        "shards/clips-00000.tar",
        60,
        64,
        114,
    )
    with (tmp_path / "out" / second.shard).open("rb") as shard:
        content = os.pread(shard.fileno(), second.size, second.offset)
    (tmp_path / "alone.mp4").write_bytes(content)
    frames = list(decode(tmp_path / "alone.mp4"))
    assert [frame.pts_s for frame in frames] == pytest.approx([index / 20 for index in range(60)])
    source = read_frames(made / "two_shots.mp4", [2.0, 4.0], size=training_size(second, 64)).astype(int)
    assert np.abs(source - [frames[0].pixels, frames[40].pixels]).mean() < 6
    assert not (tmp_path / "out" / "shards" / "staged").exists()


# webdataset leaves the last shard open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_the_shards(made: Path, tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset", reason="webdataset is not installed (extra dev)")
    curate([made], tmp_path / "out", SHARDS)
    urls = [str(path) for path in sorted((tmp_path / "out" / "shards").glob("*.tar"))]
    samples = list(wds.WebDataset(urls, shardshuffle=False).decode())
    clips = {clip.clip_id: clip for clip in read_clips(tmp_path / "out") if clip.kept}
    assert {sample["__key__"] for sample in samples} == set(clips)
    for sample in samples:
        clip = clips[sample["__key__"]]
        with (tmp_path / "out" / clip.shard).open("rb") as shard:
            by_place = os.pread(shard.fileno(), clip.size, clip.offset)
        if "mp4" in sample:
            assert sample["mp4"] == by_place
        assert sample["json"]["clip_id"] == clip.clip_id
        assert sample["json"]["text"] == clip.captions[0].text


def test_training_sees_the_same_clips_from_spans_and_shards(made: Path, tmp_path: Path) -> None:
    config = DataConfig(batch_size=1, workers=0)
    curate([made], tmp_path / "spans", HERE)
    curate([made], tmp_path / "shards", SHARDS)
    spans, shards = (iterate_batches(tmp_path / name, config) for name in ("spans", "shards"))
    for _ in range(6):
        near, far = next(spans), next(shards)
        assert (near.clip_ids, near.captions, near.bucket, near.seeds) == (
            far.clip_ids,
            far.captions,
            far.bucket,
            far.seeds,
        )
        assert (near.video - far.video).abs().mean() < 0.06
    spans.close()
    shards.close()


def test_other_filters_pack_only_what_is_new(made: Path, tmp_path: Path) -> None:
    curate([made], tmp_path / "out", SHARDS)
    before = rows(tmp_path / "out")
    more = replace(SHARDS, filters=FilterConfig(motion_score=Bounds(), near_duplicates=False))
    assert curate([made], tmp_path / "out", more).stored == 4
    after = rows(tmp_path / "out")
    assert after["still.mp4@0"].shard == "shards/clips-00001.tar"
    assert all(after[name].shard == before[name].shard for name in before if before[name].shard)
    again = curate([made], tmp_path / "out", more)
    assert (again.stored, rows(tmp_path / "out")) == (4, after)


def test_other_settings_replace_the_shards(made: Path, tmp_path: Path) -> None:
    curate([made], tmp_path / "out", SHARDS)
    curate([made], tmp_path / "out", replace(SHARDS, storage=replace(SHARDS.storage, side=32)))
    assert {path.name for path in (tmp_path / "out" / "shards").iterdir()} == {"clips-00001.tar"}
    assert {clip.stored_height for clip in read_clips(tmp_path / "out") if clip.shard} == {32}
    curate([made], tmp_path / "out", HERE)
    curate([made], tmp_path / "fresh", HERE)
    assert read_clips(tmp_path / "out") == read_clips(tmp_path / "fresh")


def test_shards_are_filled_in_order_to_their_size(made: Path, tmp_path: Path) -> None:
    curate([made], tmp_path / "out", SHARDS)
    whole = kept_clips(tmp_path / "out")
    assert [clip.offset for clip in whole] == sorted(clip.offset for clip in whole)
    assert [clip.size for clip in whole] == [
        len(source_file(tmp_path / "out", c).read_bytes()) for c in whole
    ]


def test_copies_hold_whole_groups_inside_the_clip(made: Path, tmp_path: Path) -> None:
    summary = curate([made], tmp_path / "out", COPIES)
    clips = rows(tmp_path / "out")
    photo = clips["red_barn.png@0"]
    assert (tmp_path / "out" / photo.shard).read_bytes() == (made / "sub" / "red_barn.png").read_bytes()
    second = clips["two_shots.mp4@40"]
    stored = next(clip for clip in kept_clips(tmp_path / "out") if clip.clip_id == second.clip_id)
    copy = source_file(tmp_path / "out", stored)
    frames = [frame.pixels.astype(int) for frame in decode(copy)]
    assert len(frames) == stored.frames == second.stored_frames
    assert second.start_s <= second.stored_start_s < second.stored_end_s <= second.end_s + 1e-6
    times_s = [second.stored_start_s + (index + 0.5) / 20 for index in (0, len(frames) - 1)]
    assert (read_frames(made / "two_shots.mp4", times_s) == [frames[0], frames[-1]]).all()
    assert all("group of pictures" in reason for reason in summary.not_stored.values())
    assert summary.stored + len(summary.not_stored) == summary.kept


def test_real_footage_is_copied_upright(footage: Path, tmp_path: Path) -> None:
    config = replace(
        COPIES, filters=FilterConfig(duration_s=Bounds(), motion_score=Bounds(), near_duplicates=False)
    )
    names = ["rotated_metadata_portrait.mp4", "rotate90_decord.mov", "tenbit_hevc.mp4", "sar_2x1.mp4"]
    names += ["odd_321x241_vp9.webm", "vfr_two_rates.mp4", "gif_frame_exceeds_screen.gif"]
    summary = curate([footage / "nasty" / name for name in names], tmp_path / "out", config)
    assert summary.not_stored == {}
    for clip in (clip for clip in kept_clips(tmp_path / "out") if clip.shard):
        path = source_file(tmp_path / "out", clip)
        found = probe(path)
        assert (found.height, found.width) == (clip.height, clip.width), clip.source_path
        shown = [frame.pts_s for frame in decode(path)]
        assert len(shown) == clip.frames, clip.source_path
        assert shown[-1] < clip.duration_s + 1e-3


def test_a_clip_without_a_key_frame_stays_a_span(tmp_path: Path, made: Path) -> None:
    config = replace(COPIES, spans=replace(COPIES.spans, max_duration_s=0.6))
    config = replace(config, filters=FilterConfig(duration_s=Bounds(), near_duplicates=False))
    summary = curate([made / "two_shots.mp4"], tmp_path / "out", config)
    assert summary.not_stored
    assert not summary.is_complete(1.0)
    assert {clip.clip_id for clip in read_clips(tmp_path / "out") if clip.kept and not clip.shard} == set(
        summary.not_stored
    )
