"""What visitors hand in: sniffed, decoded in a worker with limits, and kept only as we encoded it."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from kinema.curate.workers import Budget
from kinema.errors import DecodeError, KinemaError
from kinema.files import atomic_path
from kinema.studio.config import Limits
from kinema.studio.cutting import small_size
from kinema.studio.media import Lane

_ID = re.compile(r"[0-9a-f]{24}")
_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "picture",
    b"\xff\xd8\xff": "picture",
    b"GIF8": "video",
    b"\x1aE\xdf\xa3": "video",
}
_SIDE = 1080  # the shorter side of what is kept


class UploadError(KinemaError):
    """A file that is not taken, and why."""


@dataclass(frozen=True)
class Upload:
    """A picture (.png) or a clip (.mp4) that we encoded."""

    id: str
    path: Path

    @property
    def is_picture(self) -> bool:
        """Whether it is one still picture."""
        return self.path.suffix == ".png"


@dataclass(frozen=True, kw_only=True)
class Intake:
    """The worker's task: decode what came and write it anew."""

    source: Path
    target: Path
    picture: bool
    limits: Limits


class Uploads:
    """The folder of uploads. Names of visitors' files are never used."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder, self._limits = folder, limits
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.raw"):
            leftover.unlink()
        self._lane: Lane[Intake, str] = Lane(
            take_in, Budget(seconds=limits.decode_s, memory_mb=limits.memory_mb)
        )

    def get(self, upload_id: str) -> Upload | None:
        """An upload by its id; nothing else is opened."""
        if not _ID.fullmatch(upload_id):
            return None
        paths = [self._folder / f"{upload_id}{suffix}" for suffix in (".png", ".mp4")]
        return next((Upload(upload_id, path) for path in paths if path.is_file()), None)

    async def add(self, body: AsyncIterator[bytes]) -> Upload:
        """Take a file in. Raises `UploadError` for what is no picture or video, damaged, or too large."""
        upload_id = secrets.token_hex(12)
        raw = self._folder / f"{upload_id}.raw"
        try:
            begin = await self._save(body, raw)
            picture = sniffed(begin) == "picture"
            target = self._folder / f"{upload_id}{'.png' if picture else '.mp4'}"
            task = Intake(source=raw, target=target, picture=picture, limits=self._limits)
            await self._decoded(self._lane.submit(task))
            return Upload(upload_id, target)
        finally:
            raw.unlink(missing_ok=True)

    async def _save(self, body: AsyncIterator[bytes], raw: Path) -> bytes:
        begin, seen = b"", 0
        with raw.open("wb") as file:
            async for chunk in body:
                if len(begin) < 32:
                    begin += chunk[: 32 - len(begin)]
                seen += len(chunk)
                if seen > self._limits.upload_mb << 20:
                    raise UploadError(f"the file is larger than {self._limits.upload_mb} MB")
                await asyncio.to_thread(file.write, chunk)
        return begin

    async def _decoded(self, future: Future[str]) -> None:
        try:
            reason = await asyncio.wrap_future(future)
        except DecodeError as error:
            raise UploadError(str(error)) from error
        if reason:
            raise UploadError(reason)

    def close(self) -> None:
        """End the worker."""
        self._lane.close()


def sniffed(begin: bytes) -> str:
    """Picture or video by the first bytes, whatever name or type came with them."""
    if begin[:4] == b"RIFF" and begin[8:12] == b"WEBP":
        return "picture"
    if begin[4:8] == b"ftyp":
        return "video"
    for signature, kind in _SIGNATURES.items():
        if begin.startswith(signature):
            return kind
    raise UploadError("this is no picture (PNG, JPEG, WebP) and no video (MP4, MOV, WebM, MKV, GIF)")


def take_in(task: Intake) -> str:
    """In the worker: decode within the limits and write anew; the reason when that cannot be done."""
    try:
        if task.picture:
            _picture(task)
        else:
            _clip(task)
    except (KinemaError, OSError, ValueError) as error:
        return _told(error, task.source)
    return ""


def _picture(task: Intake) -> None:
    from kinema.video.container import Limits as Budgets
    from kinema.video.reader import open_source
    from kinema.video.writer import image_bytes

    with open_source(task.source, limits=Budgets(max_pixels=task.limits.pixels), threads=1) as reader:
        size = small_size(reader.info.height, reader.info.width, _SIDE)
        pixels = next(reader.pictures()).rgb(size)
    with atomic_path(task.target) as temporary:
        temporary.write_bytes(image_bytes(pixels, ".png"))


def _clip(task: Intake) -> None:
    from kinema.video.container import Limits as Budgets
    from kinema.video.reader import open_source
    from kinema.video.writer import Encoding, write_video

    limits = task.limits
    budgets = Budgets(max_pixels=limits.pixels, max_frames=round(120 * limits.video_s))
    with open_source(task.source, limits=budgets, threads=1) as reader:
        fps = min(max(reader.info.fps or 24.0, 1.0), 120.0)
        size = small_size(reader.info.height, reader.info.width, _SIDE)

        def pictures() -> Iterator[UInt8[np.ndarray, "h w 3"]]:
            for picture in reader.pictures():
                if picture.pts_s > limits.video_s:
                    raise DecodeError(f"the video is longer than {limits.video_s:g} s")
                yield picture.rgb(size)

        write_video(task.target, pictures(), fps, Encoding(crf=14, preset="veryfast", threads=1))


def _told(error: Exception, source: Path) -> str:
    """Without the name of a file that the visitor does not know."""
    words = " ".join(str(error).split()).replace(f"{source}: ", "").replace(str(source), "the file")
    return words or type(error).__name__
