"""Rendered scenes as a dataset folder: pixels and truth in shards, a row and captions for each clip."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from kinema import __version__
from kinema.dataset.facts import clip_facts
from kinema.dataset.shards import Packable, read_shard, write_shard
from kinema.errors import OutputError
from kinema.files import writable_folder, write_text
from kinema.manifest import Caption, Clip, Source, clip_id, whole_clip, write_clips, write_sources
from kinema.progress import Progress, Silent
from kinema.video.writer import Encoding, image_bytes, write_video
from kinema.world.captions import describe
from kinema.world.draw import WorldConfig, draw_scene
from kinema.world.render import render
from kinema.world.scene import (
    FPS,
    Backdrop,
    Camera,
    Colour,
    Extent,
    Ground,
    Motion,
    Pace,
    Place,
    Scene,
    Shape,
    Thing,
)

_PER_SHARD = 2000
_SOURCE = "world"
_SUFFIXES = (".mp4", ".png")
_ENCODING = Encoding(crf=12, preset="veryfast", gop=16, threads=1)


@dataclass(frozen=True, kw_only=True)
class RenderConfig:
    """What `kinema render-world` writes: `clips` videos and `images` single frames.

    `sizes` are height and width, drawn with equal chance, as are `lengths` in frames. `captions` are
    made of each scene.
    """

    clips: int = 1000
    images: int = 0
    seed: int = 0
    captions: int = 2
    sizes: tuple[tuple[int, int], ...] = ((64, 64),)
    lengths: tuple[int, ...] = (16,)
    world: WorldConfig = field(default_factory=WorldConfig)

    def __post_init__(self) -> None:
        if self.clips < 0 or self.images < 0 or self.clips + self.images < 1:
            raise ValueError(
                f"clips and images must be at least one together, got {self.clips}, {self.images}"
            )
        if self.captions < 1:
            raise ValueError(f"captions must be at least 1, got {self.captions}")
        if not self.sizes or not self.lengths:
            raise ValueError("sizes and lengths must not be empty")
        if any(frames < 2 for frames in self.lengths):
            raise ValueError(f"lengths are those of videos, at least 2 frames, got {self.lengths}")


@dataclass(frozen=True)
class _Item:
    """A scene with its number, what it is called, and what is said of it."""

    name: str
    scene: Scene
    captions: tuple[str, ...]


def render_world(out: Path, config: RenderConfig, progress: Progress | None = None) -> dict[str, Any]:
    """Write a dataset folder; the same config gives the same clips. `OutputError` when `out` is in use."""
    progress = progress or Silent()
    if out.is_dir() and any(out.iterdir()):
        raise OutputError(f"{out} is not empty; name another folder")
    writable_folder(out)
    progress.stage("render", total=config.clips + config.images)
    written = 0
    items = _items(config)
    groups = iter(lambda: tuple(islice(items, _PER_SHARD)), ())
    for number, group in enumerate(groups):
        rows = _write_group(out, number, group, progress)
        write_clips(out, f"{number:05}", rows)
        written += len(rows)
    write_sources(out, "world", [Source(source_id=_SOURCE, path="world", status="done")])
    write_text(out / "dataset.toml", tomli_w.dumps(_record(config, written)))
    return {"out": str(out), "clips": config.clips, "images": config.images, "seed": config.seed}


def truths(dataset: Path) -> dict[str, Scene]:
    """The scene of each clip of a rendered dataset, by clip_id."""
    return {
        member.clip_id: scene_of(member.facts["scene"])
        for shard in sorted((dataset / "shards").glob("clips-*.tar"))
        for member in read_shard(shard, _SUFFIXES)
    }


def scene_of(record: Mapping[str, Any]) -> Scene:
    """The scene that `dataclasses.asdict` and JSON made a record of."""
    backdrop = dict(record["backdrop"])
    backdrop |= {name: tuple(backdrop[name]) for name in ("first", "second")}
    backdrop["ground"] = Ground(backdrop["ground"])
    plain = {name: record[name] for name in ("height", "width", "frames")}
    return Scene(
        things=tuple(_thing_of(thing) for thing in record["things"]),
        backdrop=Backdrop(**backdrop),
        camera=Camera(record["camera"]),
        **plain,
    )


def _thing_of(record: Mapping[str, Any]) -> Thing:
    words = {"shape": Shape, "colour": Colour, "motion": Motion, "extent": Extent, "pace": Pace}
    named = {name: kind(record[name]) for name, kind in words.items()}
    place = None if record["place"] is None else Place(record["place"])
    return Thing(**{**record, **named, "place": place})


def _items(config: RenderConfig) -> Iterator[_Item]:
    shapes = [(size, frames) for size in config.sizes for frames in config.lengths]
    for index in range(config.clips + config.images):
        (height, width), frames = shapes[index % len(shapes)]
        still = index >= config.clips
        world = replace(config.world, height=height, width=width, frames=1 if still else frames)
        scene = draw_scene(world, config.seed * 1_000_003 + index)
        generator = np.random.default_rng([config.seed, index, 8])
        said = tuple(dict.fromkeys(describe(scene, generator) for _ in range(config.captions)))
        yield _Item(f"{'image' if still else 'video'}-{config.seed}-{index:07}", scene, said)


def _write_group(out: Path, number: int, group: tuple[_Item, ...], progress: Progress) -> list[Clip]:
    """One shard, and the rows of its clips."""
    shard = out / "shards" / f"clips-{number:05}.tar"
    shard.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as staging:
        packed = [_pack(Path(staging), item, progress) for item in group]
        write_shard(shard, [packable for _, packable in packed])
    places = {member.clip_id: member for member in read_shard(shard, _SUFFIXES)}
    name = shard.relative_to(out).as_posix()
    return [
        replace(clip, shard=name, offset=places[clip.clip_id].offset, size=places[clip.clip_id].size)
        for clip, _ in packed
    ]


def _pack(staging: Path, item: _Item, progress: Progress) -> tuple[Clip, Packable]:
    frames = render(item.scene)
    clip = _row(item, hashlib.sha256(frames.tobytes() + item.name.encode()).hexdigest())
    suffix = ".png" if len(frames) == 1 else ".mp4"
    pixels = staging / f"{clip.clip_id}{suffix}"
    if len(frames) == 1:
        pixels.write_bytes(image_bytes(frames[0], suffix))
    else:
        write_video(pixels, frames, FPS, _ENCODING)
    progress.advance(1)
    facts = clip_facts(clip) | {"scene": asdict(item.scene)}
    return clip, Packable(clip.clip_id, pixels, facts)


def _row(item: _Item, digest: str) -> Clip:
    scene = item.scene
    duration_s = scene.frames / FPS if scene.frames > 1 else 0.0
    clip = whole_clip(
        clip_id=clip_id(digest, 0, scene.frames),
        source_id=_SOURCE,
        source_path=f"world/{len(scene.things)}/{item.name}",
        frames=scene.frames,
        fps=FPS if scene.frames > 1 else 0.0,
        width=scene.width,
        height=scene.height,
        duration_s=duration_s,
        captions=tuple(Caption(text=text, kind="rendered", model="kinema") for text in item.captions),
    )
    return replace(
        clip,
        stored_start_s=0.0,
        stored_end_s=duration_s,
        stored_frames=scene.frames,
        stored_height=scene.height,
        stored_width=scene.width,
    )


def _record(config: RenderConfig, written: int) -> dict[str, Any]:
    return {"kinema": __version__, "counts": {"clips": written, "kept": written}, "world": asdict(config)}
