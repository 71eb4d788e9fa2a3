"""Orbits as a dataset: rows with angles, the same again, going on, meshes that fail, and training on it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from kinema.cli import main
from kinema.dataset.buckets import BucketRule, Timed
from kinema.dataset.config import DataConfig
from kinema.dataset.loader import iterate_batches
from kinema.errors import ConfigError, DatasetError
from kinema.manifest import read_clips, read_sources
from kinema.render import dataset
from kinema.render.dataset import OrbitConfig, find_meshes, render_orbits
from kinema.video.reader import read_frames

trimesh = pytest.importorskip("trimesh", reason="meshes need the extra `meshes`")

SMALL = OrbitConfig(orbits=2, frames=4, size=32, samples=1)


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    trimesh.creation.box().export(folder / "red_box.obj")
    trimesh.creation.icosphere(subdivisions=1).export(folder / "ball.glb")
    return folder


def test_each_orbit_is_a_clip_with_its_angles(models, tmp_path):
    summary = render_orbits([models], tmp_path / "out", SMALL)
    assert (summary["meshes"], summary["drawn"], summary["clips"], summary["failed"]) == (2, 2, 4, {})
    clips = read_clips(tmp_path / "out")
    assert {caption.text for clip in clips for caption in clip.captions} == {"red box", "ball"}
    assert all(-5 <= clip.elevation <= 30 and 0 <= clip.azimuth < 360 for clip in clips)
    assert len({clip.elevation for clip in clips}) == len({clip.clip_id for clip in clips}) == 4
    for clip in clips:
        frames = read_frames(tmp_path / "out" / clip.source_path, [0.0, 0.45])
        assert frames.shape == (2, 32, 32, 3)
        assert (frames[0, 0, 0] > 250).all()  # the background
        assert frames.min() < 230


def test_the_same_call_draws_nothing_twice_and_gives_the_same(models, tmp_path, monkeypatch):
    render_orbits([models], tmp_path / "one", SMALL)
    rows = read_clips(tmp_path / "one")
    with monkeypatch.context() as patch:
        patch.setattr(dataset, "render", lambda *_: pytest.fail("drawn again"))
        assert render_orbits([models], tmp_path / "one", SMALL)["drawn"] == 0
    assert read_clips(tmp_path / "one") == rows
    render_orbits([models], tmp_path / "two", SMALL)
    for row in rows:
        one, two = (tmp_path / name / row.source_path for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def test_a_run_that_was_stopped_goes_on(models, tmp_path, monkeypatch):
    drawn = []

    def stopping(mesh, *rest):
        drawn.append(mesh)
        if len(drawn) == 10:  # in the second mesh
            raise KeyboardInterrupt
        return render(mesh, *rest)

    render = dataset.render
    monkeypatch.setattr(dataset, "render", stopping)
    with pytest.raises(KeyboardInterrupt):
        render_orbits([models], tmp_path / "out", SMALL)
    assert len(read_sources(tmp_path / "out")) == 1
    summary = render_orbits([models], tmp_path / "out", SMALL)
    assert (summary["drawn"], summary["clips"]) == (1, 4)


def test_a_changed_mesh_or_config_is_drawn_again_in_place(models, tmp_path):
    render_orbits([models], tmp_path / "out", SMALL)
    before = {clip.clip_id for clip in read_clips(tmp_path / "out")}
    shutil.copy(models / "ball.glb", models / "other.glb")
    trimesh.creation.cone(1, 2).export(models / "red_box.obj")
    assert render_orbits([models], tmp_path / "out", SMALL)["drawn"] == 2
    clips = read_clips(tmp_path / "out")
    assert len(clips) == 6
    assert len(before & {clip.clip_id for clip in clips}) == 2
    one = OrbitConfig(orbits=1, frames=4, size=32, samples=1)
    assert render_orbits([models], tmp_path / "out", one)["clips"] == 3


def test_a_mesh_that_cannot_be_drawn_is_a_row_with_the_reason(models, tmp_path, capsys):
    (models / "points.obj").write_text("v 0 0 0\nv 1 0 0\n")
    out = tmp_path / "out"
    flags = [item for name in ("frames=3", "size=32", "samples=1") for item in ("--set", name)]
    assert main(["render-orbits", str(models), "--out", str(out), *flags, "--json"]) == 1
    summary = json.loads(capsys.readouterr().out)
    assert "no triangles" in summary["failed"][str((models / "points.obj").resolve())]
    assert summary["clips"] == 2
    with pytest.raises(DatasetError, match=r"no mesh could be drawn.*no triangles"):
        render_orbits([models / "points.obj"], tmp_path / "none", SMALL)


def test_training_reads_it(models, tmp_path):
    render_orbits([models], tmp_path / "out", SMALL)
    config = DataConfig(
        buckets=(BucketRule(resolution="32px", frames=4),), bucketing=Timed(fps=7.0), batch_size=2, workers=0
    )
    batch = next(iterate_batches(tmp_path / "out", config))
    assert tuple(batch.video.shape) == (2, 3, 4, 32, 32)
    assert np.isfinite(batch.video.numpy()).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 33}, "even"),
        ({"lowest": 40.0}, "lowest"),
        ({"background": (1.0, 2.0, 0.0)}, "background"),
        ({"frames": 0}, "frames"),
    ],
)
def test_nonsense_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        OrbitConfig(**settings)


def test_inputs_that_are_no_meshes_are_named(tmp_path):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(ConfigError, match=r"a\.mp4 is no mesh"):
        find_meshes([tmp_path / "a.mp4"])
    with pytest.raises(ConfigError, match="does not exist"):
        find_meshes([tmp_path / "b.obj"])
    with pytest.raises(ConfigError, match="no mesh is given"):
        find_meshes([tmp_path])
