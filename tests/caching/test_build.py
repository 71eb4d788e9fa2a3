from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from kinema.caching import encode
from kinema.caching.build import Crew, build_caches, prune
from kinema.dataset.packs import Packs, holding
from kinema.encoders.autoencoder_kl import FrameAutoencoder, FrameAutoencoderConfig
from kinema.encoders.text import T5Config, T5TextEncoder
from kinema.manifest import read_clips, write_clips
from kinema.progress import Silent
from kinema.train.config import CacheConfig, StageConfig, TrainConfig
from kinema.train.loop import train
from kinema.video.reader import decode_count

HERE = Crew(workers=0)


@pytest.fixture
def recipe(small_run: TrainConfig, published_encoders: Path, tmp_path: Path) -> TrainConfig:
    return replace(
        small_run,
        autoencoder=FrameAutoencoderConfig(source=str(published_encoders / "vae")),
        text_encoder=T5Config(source=str(published_encoders / "t5"), width=24, max_tokens=12),
        data=replace(small_run.data, windows=2, cache_mb=0),
        cache=CacheConfig(latents=True, text=True, folder=tmp_path),
    )


def test_after_kinema_cache_training_decodes_and_encodes_nothing(
    recipe: TrainConfig, squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = build_caches(recipe, squares, HERE, Silent())
    # Two clips; four frames in two windows and one frame in two, each also mirrored.
    assert summary["latents"]["made"] == summary["latents"]["entries"] == 2 * (2 + 2) * 2
    assert summary["embeddings"]["made"] == 2
    assert summary["bytes"] == summary["latents"]["bytes"] + summary["embeddings"]["bytes"]
    decoded = decode_count.opened
    for owner, name in ((FrameAutoencoder, "_moments"), (T5TextEncoder, "encode")):
        monkeypatch.setattr(owner, name, lambda *_: pytest.fail("an encoder ran"))
    train(replace(recipe, steps=12), squares, tmp_path / "run")
    assert decode_count.opened == decoded


def test_a_second_run_makes_nothing_and_one_that_was_stopped_goes_on(
    recipe: TrainConfig, squares: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinema.caching.build._CLIPS_A_PIECE", 1)

    class Stopping(Silent):
        def advance(self, steps: int = 1, note: str = "") -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_caches(recipe, squares, HERE, Stopping())
    rest = build_caches(recipe, squares, HERE, Silent())
    assert (rest["latents"]["made"], rest["latents"]["entries"]) == (8, 16)
    again = build_caches(recipe, squares, HERE, Silent())
    assert (again["latents"]["made"], again["embeddings"]["made"]) == (0, 0)


def test_processes_make_what_one_process_makes(recipe: TrainConfig, squares: Path, tmp_path: Path) -> None:
    one = build_caches(recipe, squares, HERE, Silent())
    apart = replace(recipe, cache=replace(recipe.cache, folder=tmp_path / "apart"))
    two = build_caches(apart, squares, Crew(workers=1), Silent())
    mine, theirs = (Packs(Path(summary["latents"]["folder"])) for summary in (one, two))
    for entry in encode.all_entries(encode.kept_clips_once(squares, "test"), (recipe.data,)):
        assert mine.read(entry.key).equal(theirs.read(entry.key))


def test_a_clip_that_cannot_be_read_is_told_and_the_others_are_made(
    recipe: TrainConfig, squares: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(squares, broken)
    clips = read_clips(broken)
    (broken / "none.mp4").write_bytes(b"nothing")
    write_clips(broken, "0", [replace(clips[0], source_path=str(broken / "none.mp4")), clips[1]])
    summary = build_caches(recipe, broken, HERE, Silent())
    assert summary["latents"]["made"] == 8
    assert list(summary["latents"]["failed"]) == [clips[0].clip_id]
    assert "none.mp4" in (Path(summary["latents"]["folder"]) / "failed.json").read_text()


def test_the_quota_is_kept(recipe: TrainConfig, squares: Path) -> None:
    small = replace(recipe, cache=replace(recipe.cache, quota_gb=1e-6))
    summary = build_caches(small, squares, HERE, Silent())
    assert summary["latents"]["full"]
    assert summary["latents"]["made"] == 0


def test_all_stages_are_covered_and_bare_recipes_keep_what_can_be_kept(
    small_run: TrainConfig, squares: Path, tmp_path: Path
) -> None:
    buckets = small_run.data.buckets
    chain = replace(
        small_run,
        data=replace(small_run.data, windows=1, flip=False),
        cache=CacheConfig(folder=tmp_path),
        stage=(
            StageConfig(name="images", steps=2, buckets=buckets[1:]),
            StageConfig(name="clips", steps=2, buckets=buckets),
        ),
    )
    summary = build_caches(chain, squares, HERE, Silent())
    assert summary["latents"]["made"] == 2 * 2
    assert "trained along" in summary["embeddings"]["reason"]


def test_pruning_leaves_what_is_used(recipe: TrainConfig, squares: Path) -> None:
    old = build_caches(recipe, squares, HERE, Silent())
    half = replace(recipe, cache=replace(recipe.cache, precision="fp16"))
    new = build_caches(half, squares, HERE, Silent())
    folder = Path(old["latents"]["folder"])
    with holding(folder):
        assert prune(half, squares, new)["in_use"] == [str(folder)]
    pruned = prune(half, squares, new)
    assert pruned["removed"] == [str(folder)]
    assert pruned["bytes_freed"] == old["latents"]["bytes"]
    assert Path(new["latents"]["folder"]).is_dir()
