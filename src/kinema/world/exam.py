"""What a model makes of the world's prompts: made in batches, judged by the checker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kinema.denoiser import Given, Sampler, VideoShape, sample_latents
from kinema.denoiser.keeping import keep_given
from kinema.diffusion.guidance import Guidance
from kinema.encoders.protocols import Parting
from kinema.model import Model
from kinema.motion import CameraMove
from kinema.shapes import Size
from kinema.video.transforms import to_frames, to_video
from kinema.video.virtual_camera import canvas, through_camera
from kinema.world.captions import describe
from kinema.world.checker import Verdict, check, check_camera
from kinema.world.draw import WorldConfig, scenes
from kinema.world.render import render
from kinema.world.scene import FPS, Scene

Frames = UInt8[np.ndarray, "t h w 3"]
_EXAM = 9_000_000
"""Scenes of the exam begin at this seed: no training set has them."""


@dataclass(frozen=True, kw_only=True)
class ExamConfig:
    """How videos are made for the exam, and how many at once. None: the model's own."""

    steps: int | None = None
    guidance_scale: float | None = None
    sampler: Sampler | None = None
    batch_size: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")


@dataclass(frozen=True)
class Paper:
    """A scene, its caption, and what was made of it."""

    scene: Scene
    caption: str
    frames: Frames

    @property
    def verdicts(self) -> list[Verdict]:
        """One for each object."""
        return check(self.scene, self.frames)


def drawn(config: WorldConfig, count: int, seed: int = 0) -> list[tuple[Scene, str]]:
    """Scenes and captions of the exam."""
    generator = np.random.default_rng([_EXAM, seed])
    return [(scene, describe(scene, generator)) for scene in scenes(config, count, _EXAM + seed)]


def from_text(
    model: Model,
    asked: Sequence[tuple[Scene, str]],
    config: ExamConfig,
    done: Callable[[], None] | None = None,
) -> list[Paper]:
    """A video for each caption."""
    return list(_made(model, asked, config, None, done))


def with_frames(
    model: Model, asked: Sequence[tuple[Scene, str]], given: Sequence[int], config: ExamConfig
) -> list[Paper]:
    """A video for each caption, in which the frames numbered `given` are those of the rendered scene."""
    return list(_made(model, asked, config, given, None))


@dataclass(frozen=True)
class _Row:
    """One video that is to be made."""

    scene: Scene
    caption: str
    seed: int
    move: CameraMove | None = None

    @property
    def shown(self) -> Size:
        return Size(self.scene.height, self.scene.width)

    def made(self, model: Model) -> Size:
        """What is made, of which a moving camera sees a part."""
        return self.shown if self.move is None else canvas(self.shown, model.autoencoder.spatial_factor)

    def shape(self, size: Size) -> VideoShape:
        return VideoShape(height=size.height, width=size.width, frames=self.scene.frames, fps=FPS)


def _made(
    model: Model,
    asked: Sequence[tuple[Scene, str]],
    config: ExamConfig,
    given: Sequence[int] | None,
    done: Callable[[], None] | None,
) -> Iterator[Paper]:
    for start in range(0, len(asked), config.batch_size):
        group = asked[start : start + config.batch_size]
        rows = _rows(group, config, start)
        if given is None:
            made = _from_prompts(model, rows, config)
        else:
            held = _held(model, [render(scene) for scene, _ in group], given)
            made = _decoded(model, _sampled(model, rows, config, held), held)
        for (scene, caption), frames in zip(group, made, strict=True):
            yield Paper(scene, caption, frames)
        if done is not None:
            done()


def _rows(group: Sequence[tuple[Scene, str]], config: ExamConfig, start: int) -> list[_Row]:
    first = config.seed * 1_000_003 + start
    return [_Row(scene, caption, first + index) for index, (scene, caption) in enumerate(group)]


def _from_prompts(model: Model, rows: Sequence[_Row], config: ExamConfig) -> list[Frames]:
    """Those under a moving camera together, if the model leaves that to a virtual one, and the others."""
    told, made = [_told(model, row) for row in rows], dict[int, Frames]()
    for moving in (False, True):
        if alike := [row for row in told if (row.move is not None) == moving]:
            videos = _decoded(model, _sampled(model, alike, config), None)
            made |= {row.seed: _filmed(row, frames) for row, frames in zip(alike, videos, strict=True)}
    return [made[row.seed] for row in rows]


def _told(model: Model, row: _Row) -> _Row:
    """Without what its caption says of the camera, if a virtual one does it."""
    if not (model.sampling.virtual_camera and isinstance(model.text_encoder, Parting)):
        return row
    shot = model.text_encoder.shot(row.caption)
    return replace(row, caption=shot.over_ground, move=shot.moves[0]) if shot.moves else row


def _filmed(row: _Row, frames: Frames) -> Frames:
    if row.move is None:
        return frames
    return np.stack(list(through_camera(iter(frames), row.move, row.shown, len(frames))))


@torch.inference_mode()
def _sampled(
    model: Model, rows: Sequence[_Row], config: ExamConfig, held: Given | None = None
) -> Float[Tensor, "b c t h w"]:
    defaults, first = model.sampling, rows[0]
    scale = defaults.guidance_scale if held is None else defaults.guidance_given or defaults.guidance_scale
    guidance = Guidance(
        scale=scale if config.guidance_scale is None else config.guidance_scale,
        motion=defaults.motion_guidance if held is None else 0.0,
    )
    return sample_latents(
        model,
        [row.caption for row in rows],
        first.shape(first.made(model)),
        steps=config.steps or defaults.steps,
        guidance_scale=guidance,
        generator=[torch.Generator(model.device).manual_seed(row.seed) for row in rows],
        sampler=config.sampler,
        given=held,
        parts_apart=defaults.parts_apart,
        begun=first.shape(first.shown) if first.move is not None and defaults.parts_apart else None,
    )


@torch.inference_mode()
def _decoded(model: Model, latents: Float[Tensor, "b c t h w"], held: Given | None) -> list[Frames]:
    videos = keep_given(model.autoencoder.decode(latents), held, model.sampling.keep_given)
    return [to_frames(video) for video in videos]


@torch.inference_mode()
def _held(model: Model, clips: Sequence[Frames], given: Sequence[int]) -> Given:
    """The frames numbered `given` of clips that are as long as what is made."""
    video = torch.stack([to_video(frames) for frames in clips]).to(model.device)
    mask = torch.ones(len(clips), video.shape[2], dtype=torch.bool, device=model.device)
    mask[:, list(given)] = False
    return Given(latents=model.autoencoder.encode(video), denoise_mask=mask, pictures=video)


def extended(
    model: Model, papers: Sequence[Paper], times: int, config: ExamConfig, overlap: int = 4
) -> list[Paper]:
    """Each video `times` windows longer; each window begins with the last `overlap` frames before it."""
    longer = []
    for start in range(0, len(papers), config.batch_size):
        group = papers[start : start + config.batch_size]
        clips = [paper.frames for paper in group]
        for turn in range(times):
            clips = _gone_on(model, group, clips, replace(config, seed=config.seed + turn + 1), overlap)
        longer += [
            Paper(replace(paper.scene, frames=len(clip)), paper.caption, clip)
            for paper, clip in zip(group, clips, strict=True)
        ]
    return longer


def _gone_on(
    model: Model, group: Sequence[Paper], clips: Sequence[Frames], config: ExamConfig, overlap: int
) -> list[Frames]:
    rest = group[0].scene.frames - overlap
    begun = [np.concatenate([clip[-overlap:], np.zeros_like(clip[:rest])]) for clip in clips]
    held = _held(model, begun, range(overlap))
    rows = _rows([(paper.scene, paper.caption) for paper in group], config, 0)
    made = _decoded(model, _sampled(model, rows, config, held), held)
    return [np.concatenate([clip, new[overlap:]]) for clip, new in zip(clips, made, strict=True)]


def share(papers: Sequence[Paper], name: str = "obeyed") -> float:
    """The share of videos whose every object has this right: colour, shape, motion, or all ("obeyed")."""
    return float(np.mean([all(getattr(verdict, name) for verdict in paper.verdicts) for paper in papers]))


def camera_share(papers: Sequence[Paper]) -> float:
    """The share of videos whose camera does as it was told."""
    return float(np.mean([check_camera(paper.scene, paper.frames) for paper in papers]))


def seconds_a_clip(model: Model, config: ExamConfig, rounds: int = 3) -> float:
    """Median seconds for one clip of the model's own shape, from the caption to frames."""
    asked = drawn(WorldConfig(objects=(1, 0, 0), camera_share=0, frames=model.sampling.frames), 1)
    spent = []
    for _ in range(rounds):
        began = time.perf_counter()
        from_text(model, asked, replace(config, batch_size=1))
        spent.append(time.perf_counter() - began)
    return float(np.median(spent))
