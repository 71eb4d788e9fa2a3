from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from kinema.studio.config import Limits
from kinema.studio.uploads import Intake, UploadError, Uploads, sniffed, take_in
from kinema.video.reader import probe
from kinema.video.writer import image_bytes, write_video


def add(uploads: Uploads, content: bytes):
    async def body() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 1000):
            yield content[start : start + 1000]

    return asyncio.run(uploads.add(body()))


@pytest.fixture
def uploads(tmp_path: Path):
    found = Uploads(tmp_path / "uploads", Limits(upload_mb=1, video_s=1.0, pixels=1 << 18))
    yield found
    found.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(path, np.zeros((12, 32, 48, 3), np.uint8), fps=24)
    return path.read_bytes()


def huge_png(side: int) -> bytes:
    """A few bytes that unpack to `side` x `side` pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side + 1) * min(side, 64)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_pictures_and_clips_are_kept_as_we_encode_them(uploads: Uploads, clip: bytes, tmp_path: Path) -> None:
    png = image_bytes(np.full((30, 40, 3), 200, np.uint8)) + b"<script>alert(1)</script>"
    picture = add(uploads, png)
    assert picture.is_picture
    assert b"script" not in picture.path.read_bytes()
    video = add(uploads, clip)
    assert (probe(video.path).frames, probe(video.path).codec) == (12, "h264")
    assert uploads.get(video.id) == video
    assert not list((tmp_path / "uploads").glob("*.raw"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"<svg xmlns='x'/>",
        b"#EXTM3U\nfile:///etc/passwd",
        b"ffconcat version 1.0",
        b"PK\x03\x04",
    ],
)
def test_what_is_neither_picture_nor_video_is_not_even_decoded(uploads: Uploads, content: bytes) -> None:
    with pytest.raises(UploadError, match="no picture"):
        add(uploads, content)
    assert list(uploads._folder.iterdir()) == []


@pytest.mark.parametrize("cut", [40, 500, 900])
def test_a_damaged_file_is_refused_in_words(uploads: Uploads, clip: bytes, cut: int) -> None:
    with pytest.raises(UploadError) as caught:
        add(uploads, clip[:cut])
    assert str(uploads._folder) not in str(caught.value)
    assert list(uploads._folder.iterdir()) == []


def test_too_many_bytes_pixels_or_seconds_are_refused(uploads: Uploads, tmp_path: Path) -> None:
    with pytest.raises(UploadError, match="larger than 1 MB"):
        add(uploads, b"\x89PNG\r\n\x1a\n" + bytes(2 << 20))
    with pytest.raises(UploadError):
        add(uploads, huge_png(20_000))
    write_video(tmp_path / "long.mp4", np.zeros((30, 32, 32, 3), np.uint8), fps=10)
    with pytest.raises(UploadError, match="longer than 1 s"):
        add(uploads, (tmp_path / "long.mp4").read_bytes())
    assert list(uploads._folder.iterdir()) == []


def test_a_worker_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    """The clip is work for seconds: a tiny one is done before anyone looks at the clock."""
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    write_video(tmp_path / "long.mp4", [np.roll(noise, step, axis=1) for step in range(48)], fps=24)
    uploads = Uploads(tmp_path / "uploads", Limits(decode_s=1e-3))
    try:
        with pytest.raises(UploadError, match=r"took more than 0\.001 s"):
            add(uploads, (tmp_path / "long.mp4").read_bytes())
    finally:
        uploads.close()


@pytest.mark.parametrize("name", ["", "..", "../x", "0" * 23, "0" * 24, "g" * 24, "0" * 24 + "/.."])
def test_only_ids_are_looked_up(uploads: Uploads, name: str) -> None:
    assert uploads.get(name) is None


def test_files_are_known_by_their_first_bytes() -> None:
    assert sniffed(b"RIFF\0\0\0\0WEBPVP8 ") == "picture"
    assert sniffed(b"\0\0\0\x18ftypmp42") == "video"
    assert sniffed(b"\x1aE\xdf\xa3....") == "video"


def test_the_worker_tells_no_names(tmp_path: Path) -> None:
    source = tmp_path / "secret-name.raw"
    source.write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 50)
    told = take_in(Intake(source=source, target=tmp_path / "t.png", picture=True, limits=Limits()))
    assert told
    assert "secret" not in told
