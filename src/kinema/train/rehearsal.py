"""The heaviest bucket first: one forward and backward pass before the first step, so that a run which does
not fit fails at once and not after days."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kinema.dataset.contact_sheet import draw_sheet, first_samples
from kinema.dataset.loader import Batch
from kinema.denoiser import VideoShape
from kinema.encoders.protocols import EncodedText, training_latents
from kinema.errors import KinemaError
from kinema.nn.counting import step_cost
from kinema.progress import Progress
from kinema.runlog import SHEET
from kinema.shapes import Bucket, resolution
from kinema.train.config import TrainConfig
from kinema.train.encoders import choose_trained
from kinema.train.forecast import Forecast, Measured, in_words, optimizer_bytes
from kinema.train.objective import draw, objective_of
from kinema.train.pace import free_memory_mb, measured_peak, peak_memory
from kinema.train.parallel import ParallelConfig, join, synchronise
from kinema.train.setup import Run, prepare, write_plan
from kinema.train.sizes import EncoderSizes, RunEncoders
from kinema.train.stages import Stage, stages
from kinema.video.writer import write_image

_FPS = 8.0
_ONCE_S = 5.0
"""A pass that takes longer is not done twice."""
_LOOKED_THROUGH = 2000
"""Steps that are searched for the first batch of each bucket."""


def rehearse(run: Run, stage: Stage, bucket: Bucket, clips: int) -> Measured:
    """Noise through everything that a step goes through, except the update; the run stays as it was.

    All ranks call it, each with so many clips of its own.
    """
    config, state, device = stage.config, run.state, run.world.device
    run.model.network.gradient_checkpointing = config.gradient_checkpointing
    choose_trained(state.trained, config.trains)
    objective = objective_of(run.model, config)
    synchronise(state.trained, last=True)
    spent, encode_mb, step_mb = list[float](), list[float](), list[float]()
    for _ in range(2):  # the first pass fetches memory and chooses kernels
        began = time.perf_counter()
        with peak_memory(device) as peak:
            batch = _noise(run, config, bucket, clips).to(device)
            clean = _clean(run, config, batch)
            encode_mb.append(peak())
        with peak_memory(device) as peak:
            draws = draw(batch.seeds, tuple(clean.shape[1:]), config).to(device)
            loss = objective(run.model.network, batch, clean, draws)["loss"].mean()
            loss.backward()  # type: ignore[no-untyped-call]
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            step_mb.append(peak())
        spent.append(time.perf_counter() - began)
        if run.world.any(spent[0] > _ONCE_S):
            break
    for parameter in state.trained.parameters():
        parameter.grad = None
    with peak_memory(device) as peak, torch.no_grad():
        run.model.autoencoder.decode(clean[:1])
        decode_mb = peak()
    choose_trained(state.trained, "all")
    across = max(1, run.world.size // run.config.parallel.replicate)
    weights = sum(p.numel() for p in state.trained.parameters()) / across
    encoders = RunEncoders(run.model.autoencoder, run.model.text_encoder, run.model.image_encoder)
    shape = EncoderSizes.of(encoders).latents(bucket.frames, bucket.size)
    share = run.world.clip_ranks / run.world.size  # a rank's part of a clip, where ranks share tokens
    return Measured(
        bucket=str(bucket),
        clips=clips,
        flops=step_cost(config.network, shape).flops * clips * share,
        seconds=min(spent),
        encode_mb=None if config.cache.latents else max(encode_mb),
        step_mb=max(step_mb),
        decode_mb=decode_mb,
        later_mb=0.0 if state.optimizers.tensors() else weights * optimizer_bytes(config.optim) / 2**20,
    )


def open_run(run: Run, progress: Progress) -> None:
    """What comes before a run's first step: warnings, the contact sheet, the heaviest bucket of any stage."""
    left = [one for one in zip(stages(run.config), run.forecasts, strict=True) if one[0].end > run.state.step]
    if not left:
        return
    progress.stage("the heaviest bucket first")
    sheet = run.folder / SHEET
    if run.world.main:
        for forecast in run.forecasts:
            for warning in forecast.warnings:
                progress.line(f"plan{forecast.name and ' of ' + forecast.name}: {warning}")
        # Training from a cache decodes nothing, nor does its plan.
        if not sheet.is_file() and not run.config.cache.latents:
            write_image(sheet, sheet_of(run.dataset, [stage for stage, _ in left]))
    number, bucket, clips = heaviest([forecast for _, forecast in left])
    measured = rehearse(run, left[number][0], bucket, clips)
    if run.world.main:
        write_plan(run.folder, run.forecasts, measured)
        progress.line(
            f"heaviest bucket: {clips} clips of {bucket}, {measured.seconds:.2g} s, {measured.memory_text}"
        )


def sheet_of(dataset: Path, chain: Sequence[Stage]) -> UInt8[np.ndarray, "h w 3"]:
    """The contact sheet of each stage, one below the other."""
    pictures = []
    for stage in chain:
        steps = min(stage.end - stage.first, _LOOKED_THROUGH)
        name = stage.name or dataset.resolve().name
        pictures.append(draw_sheet(name, first_samples(dataset, stage.config.data, steps)))
    return np.concatenate(pictures)


def heaviest(found: list[Forecast]) -> tuple[int, Bucket, int]:
    """The stage whose largest batch takes most memory, its bucket, and the clips that a rank holds of it."""
    number = max(range(len(found)), key=lambda place: found[place].heaviest[1].memory_mb)
    row, cost = found[number].heaviest
    sizes = resolution(row.resolution).sizes
    key = next(key for key, size in sizes.items() if (size.height, size.width) == (row.height, row.width))
    return number, Bucket(row.resolution, row.bucket_frames, key), cost.rank_clips


def measure(
    config: TrainConfig, dataset: Path, found: list[Forecast], budget_s: float = 120.0
) -> Measured | str:
    """Rehearse in a process of its own, whose end for want of memory ends nothing else; or say why not.

    What would take longer than `budget_s` at this machine's best rate, or more memory than is free, is not
    begun.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    number, bucket, clips = heaviest(found)
    cost = found[number].heaviest[1]
    seconds = cost.clip_flops * clips / measured_peak(device, config.precision)
    what = f"a step of {clips} clips of {bucket}"
    if seconds > budget_s:
        return f"not measured: {what} takes at least {in_words(seconds)} on this machine"
    if cost.memory_mb > free_memory_mb(device):
        return (
            f"not measured: {what} needs about {cost.memory_mb / 1024:.1f} GB, and so much is not free here"
        )
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(_alone, config, dataset, number, bucket, clips).result()
    except BrokenProcessPool:
        return f"not measured: the process that tried {what} was killed; it does not fit in memory"
    except KinemaError as error:
        return f"not measured: {error}"


@contextmanager
def run_alone(config: TrainConfig, dataset: Path) -> Iterator[Run]:
    """A run of one process in a folder that goes afterwards, without caches: to try what a step takes."""
    config = replace(
        config, parallel=ParallelConfig(), cache=replace(config.cache, latents=False, text=False)
    )
    with tempfile.TemporaryDirectory(prefix="kinema-plan-") as folder, join(config.parallel) as world:
        yield prepare(config, dataset, Path(folder), False, world)


def _alone(config: TrainConfig, dataset: Path, number: int, bucket: Bucket, clips: int) -> Measured:
    with run_alone(config, dataset) as run:
        return rehearse(run, stages(run.config)[number], bucket, clips)


def _noise(run: Run, config: TrainConfig, bucket: Bucket, clips: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    size = bucket.size
    frames = 0 if config.cache.latents else bucket.frames
    text = None
    if config.cache.text:
        encoder = run.model.text_encoder
        tokens = torch.randn(clips, encoder.max_tokens, encoder.width, generator=generator)
        text = EncodedText(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool))
    return Batch(
        video=torch.rand(clips, 3, frames, size.height, size.width, generator=generator) * 2 - 1,
        captions=[" ".join(run.prompts)] * clips,
        fps=torch.full((clips,), _FPS),
        bucket=bucket,
        clip_ids=[f"noise {number}" for number in range(clips)],
        step=0,
        epoch=0,
        seeds=list(range(clips)),
        text=text,
        scores={
            "motion_score": torch.full((clips,), float("nan")),
            "duration_s": torch.full((clips,), bucket.frames / _FPS),
            "elevation": torch.zeros(clips),
            "azimuth": torch.zeros(clips),
        },
    )


@torch.no_grad()
def _clean(run: Run, config: TrainConfig, batch: Batch) -> Float[Tensor, "b c t h w"]:
    if not config.cache.latents:
        return training_latents(run.model.autoencoder, batch.video, batch.seeds)
    size = batch.bucket.size
    shape = VideoShape(height=size.height, width=size.width, frames=batch.bucket.frames, fps=_FPS)
    return torch.zeros(len(batch.seeds), *shape.latent_shape(run.model.autoencoder), device=batch.fps.device)
