"""Sources in an object store: a real S3 server on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kinema.curate.discover import discover
from kinema.curate.pipeline import CurateConfig, curate
from kinema.errors import DatasetError
from kinema.location import FetchError, located
from kinema.manifest import read_clips, read_sources
from kinema.video.reader import read_frames

HERE = CurateConfig(workers=0)


@pytest.fixture(scope="module")
def bucket(made: Path) -> Iterator[str]:
    """The made footage in a bucket."""
    moto = pytest.importorskip("moto.server", reason="moto[server] is not installed (extra dev)")
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed (extra s3)")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with pytest.MonkeyPatch.context() as environment:
        server.start()
        host, port = server.get_host_and_port()
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        store = s3fs.S3FileSystem()
        store.mkdir("footage")
        for path in sorted(made.rglob("*.*")):
            store.pipe(f"footage/raw/{path.relative_to(made)}", path.read_bytes())
        store.pipe("footage/raw/.hidden/x.mp4", b"x")
        yield "s3://footage/raw/"
        server.stop()


def test_a_prefix_a_glob_and_an_object_are_found(bucket: str, tmp_path: Path) -> None:
    names = ["broken.mp4", "still.mp4", "sub/red_barn.png", "two_shots.mp4"]
    assert [str(path) for path in discover([bucket], tmp_path)] == [bucket + name for name in names]
    assert [path.name for path in discover([bucket + "*.mp4"], tmp_path)] == names[:2] + names[3:]
    assert [str(path) for path in discover([bucket + names[0]], tmp_path)] == [bucket + names[0]]
    (tmp_path / "all.txt").write_text(bucket + names[1] + "\n")
    assert [str(path) for path in discover([tmp_path / "all.txt"], tmp_path / "out")] == [bucket + names[1]]
    (tmp_path / "gone.txt").write_text(bucket + "gone.mp4\n")
    with pytest.raises(DatasetError, match="no video or image files"):
        discover(["s3://footage/none/"], tmp_path)
    with pytest.raises(FetchError, match=r"s3://: "):
        discover(["s3://"], tmp_path)
    summary = curate([f"{bucket}sub/red_barn.png", tmp_path / "gone.txt"], tmp_path / "out", HERE)
    assert summary.failed == {f"{bucket}gone.mp4": "no such file, or its server does not answer"}


def test_objects_give_the_rows_of_files(bucket: str, made: Path, tmp_path: Path) -> None:
    far = curate([bucket], tmp_path / "far", replace(HERE, workers=2))
    near = curate([made], tmp_path / "near", HERE)
    assert (far.clips, far.kept, far.dropped) == (near.clips, near.kept, near.dropped)

    def rows(out: Path) -> list:
        unlike = {"clip_id": "", "source_id": "", "source_path": ""}
        clips = [replace(clip, near_duplicate_of=None) for clip in read_clips(out)]
        return [(Path(clip.source_path).name, replace(clip, **unlike)) for clip in clips]

    assert rows(tmp_path / "far") == rows(tmp_path / "near")
    assert curate([bucket], tmp_path / "far", HERE).decoded == 0
    first = read_clips(tmp_path / "far")[-1]
    frames = [
        read_frames(path, [first.start_s]) for path in (located(first.source_path), made / "two_shots.mp4")
    ]
    assert (frames[0] == frames[1]).all()


def test_a_store_that_does_not_answer_is_no_fault_of_the_object(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3fs = pytest.importorskip("s3fs")
    (path,) = discover([bucket + "still.mp4"], tmp_path)

    def refuse(*arguments: object, **named: object) -> bytes:
        raise ConnectionError("connection refused")

    with monkeypatch.context() as broken:
        broken.setattr(s3fs.core.S3File, "_fetch_range", refuse)
        summary = curate([path], tmp_path / "out", HERE)
    assert "connection refused" in summary.failed[str(path)]
    assert read_sources(tmp_path / "out")[0].status == "unreadable"
    assert curate([path], tmp_path / "out", HERE).failed == {}
