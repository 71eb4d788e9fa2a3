"""A step that could not be done, written down so that it can be done again and looked into."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinema.checkpoint import as_record, from_record, read_json, read_tensors, write_json, write_tensors
from kinema.dataset.loader import Batch
from kinema.encoders.protocols import EncodedText
from kinema.errors import CheckpointError
from kinema.model import load_model
from kinema.motion import MotionMap
from kinema.nn import STDiT2, build_network
from kinema.shapes import Bucket
from kinema.train.adapting import adapt
from kinema.train.checkpoints import Checkpoints, fill_from, load_checkpoint
from kinema.train.config import TrainConfig
from kinema.train.encoders import run_encoders
from kinema.train.objective import Objective, draw
from kinema.train.pictures import Pictures
from kinema.train.setup import Run
from kinema.train.sizes import RunEncoders
from kinema.train.stages import Stage, stages

FAILED = "failed"
_PLAIN = ("captions", "clip_ids", "seeds", "step", "epoch")


def write_failure(run: Run, stage: Stage, seen: list[tuple[Batch, Tensor]]) -> Path:
    """The weights of this moment, and the clips of all ranks as the network saw them; every rank calls this.

    Into `failed/step-N` (a checkpoint) and `failed/step-N.safetensors` and `.json` beside it.
    """
    folder = run.folder / FAILED
    checkpoints = Checkpoints(folder, run.world, keep=3)
    checkpoints.save(run.state.step, run.state.groups(), run.state.numbers())
    checkpoints.wait()
    file = folder / f"step-{run.state.step:08d}.safetensors"
    mine = [(batch.to("cpu"), clean.cpu()) for batch, clean in seen]
    parts = [part for said in run.world.gather_clips(mine) for part in said]
    if run.world.main:
        tensors: dict[str, Tensor] = {}
        records = []
        for number, (batch, clean) in enumerate(parts):
            tensors |= {f"{number}/{name}": tensor for name, tensor in _tensors(batch, clean).items()}
            record = {name: getattr(batch, name) for name in _PLAIN}
            records.append(record | {"bucket": as_record(batch.bucket)})
        write_tensors(file, tensors)
        motion = None if run.model.motion is None else as_record(run.model.motion)
        write_json(file.with_suffix(".json"), {"stage": stage.name, "parts": records, "motion": motion})
    return file


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What `write_failure` wrote, read again."""

    stage: str
    parts: list[tuple[Batch, Tensor]]
    file: Path
    motion: MotionMap | None = None

    @property
    def run(self) -> Path:
        """The folder of the run that failed."""
        return self.file.parent.parent


def read_failure(file: Path) -> Failure:
    """Raises `CheckpointError` for a file that is no failed step."""
    if file.suffix != ".safetensors":
        raise CheckpointError(f"{file} is no failed step; they are RUN/failed/step-*.safetensors")
    record, tensors = read_json(file.with_suffix(".json")), read_tensors(file)
    try:
        parts = [
            _part(number, plain, tensors, f"{file.with_suffix('.json')}: parts[{number}]")
            for number, plain in enumerate(record["parts"])
        ]
        told = record.get("motion")
        motion = (
            None if told is None else from_record(MotionMap, told, f"{file.with_suffix('.json')}: motion")
        )
        return Failure(stage=record["stage"], parts=parts, file=file, motion=motion)
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{file} is not a failed step: it lacks {error}") from error


def replay(config: TrainConfig, file: Path) -> dict[str, Any]:
    """Do a failed step again, in this process, as far as its gradient; say what is not finite where.

    `config` is the run's resolved one. The loss of each clip, and the parameters whose gradient is not
    finite; the network and its clips are those of the moment.
    """
    failure = read_failure(file)
    stage = next((one for one in stages(config) if one.name == failure.stage), stages(config)[0])
    started = None if config.start_from is None else load_model(config.start_from, ema=False)
    encoders = run_encoders(config, failure.run, failure.run, started, fresh=False)
    checkpoint = load_checkpoint(file.with_suffix(""))
    network = build_network(config.network) if config.lora is None or started is None else started.network
    modules = torch.nn.ModuleDict()
    for name in dict.fromkeys(key.split("/")[0] for key in checkpoint.tensors):
        match name:
            case "network":
                modules[name] = network
            case "lora" if config.lora is not None:
                modules[name] = adapt(network, config.lora, config.seed)
            case "text_encoder" | "image_encoder":
                encoder = encoders.text if name == "text_encoder" else encoders.image
                assert isinstance(encoder, torch.nn.Module)
                modules[name] = encoder.requires_grad_(True)
            case _:
                continue
        fill_from(modules[name], checkpoint, name)
    if isinstance(network, STDiT2):
        network.rope.requires_grad_(False)
    network.gradient_checkpointing = stage.config.gradient_checkpointing
    objective = _objective(stage.config, encoders, failure.motion)
    clips = sum(len(batch.seeds) for batch, _ in failure.parts)
    losses: list[tuple[str, float]] = []
    for batch, clean in failure.parts:
        terms = objective(network, batch, clean, draw(batch.seeds, tuple(clean.shape[1:]), stage.config))
        (terms["loss"].sum() / clips).backward()  # type: ignore[no-untyped-call]
        losses += zip(batch.clip_ids, terms["loss"].tolist(), strict=True)
    gradients = {name: value.grad for name, value in modules.named_parameters() if value.grad is not None}
    norm = torch.nn.utils.get_total_norm(gradients.values())
    return {
        "step": failure.parts[0][0].step,
        "stage": failure.stage or None,
        "loss": _number(sum(loss for _, loss in losses) / len(losses)),
        "grad_norm": _number(norm.item()),
        "clips": {clip: _number(loss) for clip, loss in losses},
        "not_finite": [name for name, grad in gradients.items() if not bool(grad.isfinite().all())],
    }


def _objective(config: TrainConfig, encoders: RunEncoders, motion: MotionMap | None) -> Objective:
    pictures = None
    if encoders.image is not None:
        pictures = Pictures(encoders.autoencoder, encoders.image, config.pictures, config.seed)
    return Objective(encoders.text, config.process, config.precision, config.preset, pictures, motion)


def _number(value: float) -> float | str:
    """A number as JSON can hold it."""
    return value if abs(value) < float("inf") else str(value)


def _tensors(batch: Batch, clean: Tensor) -> dict[str, Tensor]:
    found = {"clean": clean, "video": batch.video, "fps": batch.fps}
    found |= {f"scores/{name}": values for name, values in batch.scores.items()}
    if batch.text is not None:
        found |= {"tokens": batch.text.tokens, "mask": batch.text.mask}
    return found


def _part(
    number: int, plain: dict[str, Any], tensors: dict[str, Tensor], source: str
) -> tuple[Batch, Tensor]:
    own = {key.partition("/")[2]: value for key, value in tensors.items() if key.startswith(f"{number}/")}
    text = EncodedText(own["tokens"], own["mask"]) if "tokens" in own else None
    known = {name: plain[name] for name in _PLAIN}
    bucket = from_record(Bucket, plain["bucket"], source)
    scores = {key[7:]: value for key, value in own.items() if key.startswith("scores/")}
    batch = Batch(video=own["video"], fps=own["fps"], bucket=bucket, text=text, scores=scores, **known)
    return batch, own["clean"]
