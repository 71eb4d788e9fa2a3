"""Orbits of many meshes as a dataset folder that `kinema train` reads."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tomli_w
from jaxtyping import UInt8

from kinema import __version__
from kinema.errors import ConfigError, DatasetError, DecodeError
from kinema.files import exclusive, file_sha256, writable_folder, write_text
from kinema.location import filename_words
from kinema.manifest import (
    Caption,
    Clip,
    Source,
    clip_id,
    read_clips,
    read_sources,
    whole_clip,
    write_clips,
    write_sources,
)
from kinema.progress import Progress, Silent
from kinema.render.light import irradiance, random_environment, read_environment
from kinema.render.mesh import MESH_SUFFIXES, Mesh, load_mesh, mesh_name
from kinema.render.orbit import Picture, orbit, render
from kinema.video.writer import Encoding, write_video

_VERSION = 1  # raise it when the same config and mesh give other pictures
_LOSSLESS_TO_THE_EYE = 12


@dataclass(frozen=True, kw_only=True)
class OrbitConfig:
    """`orbits` of each mesh, of `frames` pictures over 360 degrees, `size` pixels square.

    Each orbit draws its elevation, the azimuth that it starts from, and its light: a made environment map,
    or one of the files `environments`. `samples` squared points are drawn a pixel. `up` is the meshes' own
    upward axis. `workers` are processes.
    """

    orbits: int = 1
    frames: int = 21
    size: int = 576
    fps: float = 7.0
    lowest: float = -5.0
    highest: float = 30.0
    up: Literal["y", "z"] = "y"
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    environments: tuple[Path, ...] = ()
    samples: int = 2
    seed: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        for name in ("orbits", "frames", "size", "fps", "samples", "workers"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.size % 2:
            raise ValueError(f"size must be even, got {self.size}")
        if not -90 <= self.lowest <= self.highest <= 90:
            raise ValueError(
                f"-90 <= lowest <= highest <= 90 degrees is needed, got {self.lowest}, {self.highest}"
            )
        if len(self.background) != 3 or not all(0 <= part <= 1 for part in self.background):
            raise ValueError(f"background is red, green and blue from 0 to 1, got {self.background}")

    @property
    def picture(self) -> Picture:
        """What each frame is."""
        return Picture(size=self.size, background=self.background, samples=self.samples)

    @property
    def key(self) -> str:
        """Names what decides the pictures of a mesh."""
        content = json.dumps([_VERSION, asdict(replace(self, workers=1))], sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()[:12]


def render_orbits(
    inputs: Sequence[Path], out: Path, config: OrbitConfig, progress: Progress | None = None
) -> dict[str, Any]:
    """Render every mesh of `inputs` (files and folders) into the dataset folder `out`; return a summary.

    The same call again goes on where it stopped: a finished mesh is not drawn twice. A mesh that cannot be
    drawn is a row with the reason.
    """
    began, progress = time.monotonic(), progress or Silent()
    meshes = find_meshes(inputs)
    for path in config.environments:
        read_environment(path)
    with exclusive(writable_folder(out)):
        if not (out / "dataset.toml").is_file():
            write_text(out / "dataset.toml", tomli_w.dumps({"kinema": __version__}))
        done = {(row.path, row.sha256) for row in read_sources(out) if row.analysis == config.key}
        todo = [path for path in meshes if (str(path), file_sha256(path)) not in done]
        progress.stage("render", total=len(meshes))
        progress.advance(len(meshes) - len(todo))
        drawn = 0
        for source in _rendered(todo, out, config):
            drawn += source.status == "done"
            progress.advance(note=Path(source.path).name)
        return _summary(out, drawn, config, time.monotonic() - began)


def find_meshes(inputs: Sequence[Path]) -> list[Path]:
    """Mesh files, and those in folders, in order of name. Raises `ConfigError` when there is none."""
    found: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found += sorted(item for item in path.rglob("*") if item.suffix.lower() in MESH_SUFFIXES)
        elif not path.exists():
            raise ConfigError(f"{path} does not exist; name meshes or a folder of them")
        elif path.suffix.lower() not in MESH_SUFFIXES:
            raise ConfigError(f"{path} is no mesh; known are {', '.join(sorted(MESH_SUFFIXES))}")
        else:
            found.append(path)
    if not found:
        raise ConfigError("no mesh is given; for example: kinema render-orbits models --out dataset")
    return list(dict.fromkeys(path.resolve() for path in found))


def _source_id(path: Path) -> str:
    return hashlib.sha256(str(path).encode()).hexdigest()[:16]


def _rendered(todo: list[Path], out: Path, config: OrbitConfig) -> Iterator[Source]:
    work = partial(_render_mesh, out=out, config=config)
    if config.workers == 1 or len(todo) < 2:
        yield from map(work, todo)
        return
    with ProcessPoolExecutor(config.workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, todo)


def _render_mesh(path: Path, out: Path, config: OrbitConfig) -> Source:
    """Videos and their rows first, the mesh's own row last: only then is it finished."""
    source = Source(
        source_id=_source_id(path),
        path=str(path),
        sha256=file_sha256(path),
        bytes=path.stat().st_size,
        mtime_ns=path.stat().st_mtime_ns,
        width=config.size,
        height=config.size,
        fps=config.fps,
        frames=config.frames,
        duration_s=config.frames / config.fps,
        analysis=config.key,
    )
    try:
        mesh = _upright(load_mesh(path), config.up)
    except DecodeError as error:
        source = replace(source, status="failed", reason=str(error))
    else:
        clips = [_render_orbit(mesh, source, number, out, config) for number in range(config.orbits)]
        write_clips(out, source.source_id, clips)
    write_sources(out, source.source_id, [source])
    return source


def _upright(mesh: Mesh, up: Literal["y", "z"]) -> Mesh:
    """z up is turned about x until it is y."""
    if up == "y":
        return mesh
    turned = {
        name: getattr(mesh, name)[..., [0, 2, 1]] * np.array([1, 1, -1]) for name in ("corners", "normals")
    }
    return replace(mesh, **turned)


def _render_orbit(mesh: Mesh, source: Source, number: int, out: Path, config: OrbitConfig) -> Clip:
    generator = np.random.default_rng([config.seed, int(source.sha256[:16], 16), number])
    elevation = float(generator.uniform(config.lowest, config.highest))
    start = float(generator.uniform(0, 360))
    if config.environments:
        environment = read_environment(config.environments[generator.integers(len(config.environments))])
    else:
        environment = random_environment(generator)
    light = irradiance(environment)

    def pictures() -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        for camera in orbit(start, elevation, config.frames):
            yield render(mesh, camera, light, config.picture)

    name = f"orbits/{mesh_name(Path(source.path))}-{source.source_id[:8]}-{number}.mp4"
    write_video(out / name, pictures(), config.fps, Encoding(crf=_LOSSLESS_TO_THE_EYE, threads=1))
    return _clip(source, number, name, elevation, start)


def _clip(source: Source, number: int, name: str, elevation: float, azimuth: float) -> Clip:
    words = filename_words(Path(source.path))
    clip = whole_clip(
        clip_id=clip_id(f"{source.sha256}:{source.analysis}:{number}", 0, source.frames),
        source_id=source.source_id,
        source_path=name,
        frames=source.frames,
        fps=source.fps,
        width=source.width,
        height=source.height,
        duration_s=source.duration_s,
        captions=(Caption(text=words, kind="filename"),) if words else (),
    )
    return replace(clip, elevation=elevation, azimuth=azimuth)


def _summary(out: Path, drawn: int, config: OrbitConfig, seconds: float) -> dict[str, Any]:
    rows = read_sources(out)
    clips = read_clips(out)
    failed = {row.path: row.reason for row in rows if row.status == "failed"}
    counts = {"sources": len(rows), "failed": len(failed), "clips": len(clips), "kept": len(clips)}
    settings = {**asdict(config), "environments": [str(path) for path in config.environments]}
    write_text(
        out / "dataset.toml",
        tomli_w.dumps({"kinema": __version__, "counts": counts, "orbits": settings}),
    )
    if not clips:
        raise DatasetError(f"no mesh could be drawn; the first reason: {next(iter(failed.values()))}")
    return {
        "out": str(out),
        "meshes": len(rows),
        "drawn": drawn,
        "clips": len(clips),
        "failed": failed,
        "seconds": round(seconds, 2),
    }
