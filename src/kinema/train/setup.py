"""Before the first step: the folder, the plan, the encoders, the network, and what a run remembers."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import tomli_w
import torch
from torch import nn

from kinema.checkpoint import write_json
from kinema.conventions import CONVENTIONS
from kinema.dataset.buckets import Timed
from kinema.dataset.plan import Plan, make_plan
from kinema.dataset.store import kept_clips
from kinema.errors import ConfigError, OutputError
from kinema.files import writable_folder, write_text
from kinema.model import Model, SamplingDefaults, TrainedOn, load_model, save_model
from kinema.motion import MotionMap
from kinema.nn import Network, STDiT2, VideoUNet, VideoUNetConfig, build_network
from kinema.nn.growing import begin_at_zero, fill_grown
from kinema.runlog import require_wandb
from kinema.train.adapting import PART, adapt, export_lora, with_lora
from kinema.train.caching import Caches, open_caches
from kinema.train.checkpoints import (
    Checkpoint,
    Checkpoints,
    checkpoint_folders,
    fill_from,
    latest_checkpoint,
)
from kinema.train.config import TrainConfig
from kinema.train.encoders import (
    check_lengths,
    learns_new_words,
    run_encoders,
    trained_parts,
    with_encoders,
)
from kinema.train.forecast import Forecast, Measured, forecast_of, process_mb
from kinema.train.optim import AdamW8bitConfig, require_eight_bit
from kinema.train.parallel import World
from kinema.train.sizes import EncoderSizes, RunEncoders
from kinema.train.stages import stages, whole_chain
from kinema.train.state import TrainState, average_group

RESOLVED, CHECKPOINTS = "resolved.toml", "checkpoints"
_PUBLISHED_FPS = 24.0


@dataclass(kw_only=True)
class Run:
    """A run that is ready for its next step. `refused` names checkpoints that were damaged.

    `learned` are copies of the encoders that learn along, to be filled and written while training goes on.
    """

    config: TrainConfig
    dataset: Path
    folder: Path
    world: World
    forecasts: tuple[Forecast, ...]
    state: TrainState
    model: Model
    checkpoints: Checkpoints
    prompts: tuple[str, ...]
    caches: Caches
    learned: dict[str, nn.Module] = field(default_factory=dict)
    refused: tuple[str, ...] = ()

    @property
    def averaged_model(self) -> Model:
        """The model with the averaged weights, for previews; shares everything else."""
        text_encoder = self.model.text_encoder
        image_encoder: Any = self.model.image_encoder
        if PART in self.state.average:
            return replace(self.model, network=with_lora(self.model.network, self.state.average[PART]))
        if "text_encoder" in self.state.average:
            text_encoder = self.state.average["text_encoder"]  # type: ignore[assignment]
        if "image_encoder" in self.state.average:
            image_encoder = self.state.average["image_encoder"]
        network = self.state.average["network"]
        assert isinstance(network, STDiT2 | VideoUNet)
        return replace(self.model, network=network, text_encoder=text_encoder, image_encoder=image_encoder)

    def save(self) -> None:
        """Checkpoint and model folder as of this step, written while training goes on."""
        seeds = {"seed": self.config.seed, "data_seed": self.config.data.seed}
        state = self.state
        self.caches.flush()
        self.checkpoints.save(state.step, state.groups(), state.numbers() | seeds, then=self.export)

    def export(self, checkpoint: Checkpoint) -> None:
        """Write the model folder as of a checkpoint, or the LoRA that is laid on another model."""
        if PART in self.state.average:
            assert self.config.start_from is not None
            weights = checkpoint.group(average_group(PART))
            export_lora(
                self.folder, self.model.network, self.state.average[PART], weights, self.config.start_from
            )
            return
        samples = int(checkpoint.state["samples"])
        model = replace(
            self.model, trained_on=replace(self.model.trained_on, steps=checkpoint.step, samples=samples)
        )
        for name, part in self.learned.items():
            fill_from(part, checkpoint, name)
        encoders: Any = self.learned
        model = replace(model, **encoders)
        average = {name: checkpoint.group(average_group(name)) for name in self.state.average}
        save_model(self.folder, model, average, network=checkpoint.group("network"))


def prepare(config: TrainConfig, dataset: Path, folder: Path, resume: bool, world: World) -> Run:
    """Check everything that can fail early, then build or restore the run."""
    config = whole_chain(config)
    _check_extras(config)
    plans = [make_plan(dataset, stage.config.data) for stage in stages(config)]
    adapts = config.lora is not None  # and is laid on the weights that would be sampled from
    started = None if config.start_from is None else load_model(config.start_from, ema=adapts)
    fresh = world.main and not (folder / RESOLVED).is_file()

    def made() -> RunEncoders:
        if world.main:
            _claim(folder, resume)
        return run_encoders(config, dataset, folder, started, fresh=fresh)

    encoders = world.first(made)
    config = with_encoders(config, encoders, started)
    costs = _forecasts(config, plans, EncoderSizes.of(encoders), world)
    check_lengths(config, encoders.autoencoder)
    model = Model(
        network=_seeded_network(config),
        process=config.process,
        autoencoder=encoders.autoencoder,
        text_encoder=encoders.text,
        image_encoder=encoders.image,
        motion=_motion(config, dataset, started),
        sampling=_sampling_defaults(config, plans[-1]),
        trained_on=_trained_on(dataset, plans[-1]),
        preset=config.preset,
    ).to(world.device)
    if world.sequence is not None and not isinstance(model.network, STDiT2):
        raise ConfigError(f"parallel.sequence: the tokens of {type(model.network).__name__} cannot be shared")
    learned = {name: copy.deepcopy(part) for name, part in trained_parts(model).items() if name != "network"}
    checkpoints = Checkpoints(
        folder / CHECKPOINTS, world, keep=config.keep_checkpoints, keep_every=config.keep_every
    )
    _check_angles(model.network, dataset)
    state, refused = _state(config, model, started, folder, world)
    if world.main:
        write_plan(folder, costs)
        write_text(folder / RESOLVED, tomli_w.dumps(_without_none(asdict(config))))
    return Run(
        config=config,
        dataset=dataset,
        folder=folder,
        world=world,
        forecasts=costs,
        state=state,
        model=model,
        checkpoints=checkpoints,
        caches=open_caches(config, dataset, model.autoencoder, model.text_encoder),
        prompts=config.preview.prompts or _first_captions(dataset, config.preview.count),
        learned=learned,
        refused=refused,
    )


def _state(
    config: TrainConfig, model: Model, started: Model | None, folder: Path, world: World
) -> tuple[TrainState, tuple[str, ...]]:
    """The run's own last checkpoint, else where it starts from, else step 0; and damaged checkpoints."""
    grows = started is not None and started.network.config != replace(
        model.network.config, caption_drop=started.network.config.caption_drop
    )
    if started is not None:
        fill_grown(model.network, started.network.state_dict(), str(config.start_from))
    parts = _parts(config, model, world)
    state = TrainState.fresh(
        parts,
        config.optim,
        world,
        precision=config.precision,
        spikes=config.spikes,
        horizons=config.ema_also,
    )
    if (checkpoint := latest_checkpoint(folder / CHECKPOINTS, world)) is not None:
        state.restore(checkpoint)
        return state, checkpoint.refused
    learns = started is not None and learns_new_words(model.text_encoder, started)
    goes_on = config.lora is None and not grows and not learns
    if goes_on and config.start_from and checkpoint_folders(config.start_from / CHECKPOINTS):
        earlier = latest_checkpoint(config.start_from / CHECKPOINTS, world)
        assert earlier is not None
        state.carry_on(earlier)
        return state, earlier.refused
    return state, ()


def _check_angles(network: Network, dataset: Path) -> None:
    """A network that is told angles must not be told 0 of clips that have none."""
    conditions = network.config.conditions if isinstance(network, VideoUNet) else ()
    if not {"elevation", "azimuth"} & {condition.name for condition in conditions}:
        return
    for clip in kept_clips(dataset):
        if clip.elevation is None or clip.azimuth is None:
            raise ConfigError(
                f"network.conditions has camera angles, but clip {clip.clip_id} has none; "
                "leave them out for footage, or make orbits with: kinema render-orbits"
            )


def _parts(config: TrainConfig, model: Model, world: World) -> dict[str, nn.Module]:
    """What learns."""
    if config.lora is not None:
        if isinstance(model.network, STDiT2):
            model.network.share_tokens(world.sequence)
        return {PART: adapt(model.network, config.lora, config.seed)}
    parts = trained_parts(model)
    for part in parts.values():
        part.requires_grad_(True).train()
    if isinstance(model.network, STDiT2):
        model.network.rope.requires_grad_(False)
    return parts


def write_plan(folder: Path, costs: tuple[Forecast, ...], measured: Measured | None = None) -> None:
    """plan.json: what each stage trains on, what it takes, and what the heaviest bucket was seen to take."""
    record = {cost.name: cost.as_dict() for cost in costs}
    told = {} if measured is None else {"measured": asdict(measured)}
    write_json(folder / "plan.json", ({"stages": record} if len(costs) > 1 else costs[0].as_dict()) | told)


def _forecasts(
    config: TrainConfig, plans: list[Plan], sizes: EncoderSizes, world: World
) -> tuple[Forecast, ...]:
    base_mb = process_mb()
    chain = zip(stages(config), plans, strict=True)
    return tuple(forecast_of(stage, plan, sizes, world.size, base_mb) for stage, plan in chain)


def _check_extras(config: TrainConfig) -> None:
    """Before the folder is written, so that the same command does once they are installed."""
    if config.wandb:
        require_wandb(config.wandb)
    if isinstance(config.optim, AdamW8bitConfig):
        require_eight_bit()


def _claim(folder: Path, resume: bool) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        if not resume:
            raise OutputError(f"{folder} is not empty; go on with --resume, or name another folder")
        if not (folder / RESOLVED).is_file():
            raise OutputError(f"{folder} holds no run to resume (no {RESOLVED}); name another folder")
    writable_folder(folder)


def _seeded_network(config: TrainConfig) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = build_network(config.network)
    if isinstance(network, VideoUNet):
        begin_at_zero(network)
    return network


def _sampling_defaults(config: TrainConfig, plan: Plan) -> SamplingDefaults:
    """The longest bucket that clips fill, and of those the fullest."""
    filled = [row for row in plan.rows if row.clips] or list(plan.rows)
    row = max(filled, key=lambda row: (row.bucket_frames, row.clips))
    bucketing, interval = config.data.bucketing, CONVENTIONS[config.preset].frame_interval
    return SamplingDefaults(
        height=row.height,
        width=row.width,
        frames=row.bucket_frames,
        fps=bucketing.fps if isinstance(bucketing, Timed) else _PUBLISHED_FPS / interval,
        steps=config.preview.steps,
        guidance_scale=config.preview.guidance_scale,
        guidance_first=config.preview.guidance_first,
        guidance_shape=config.preview.guidance_shape,
        guidance_given=config.preview.guidance_given,
        keep_given=config.preview.keep_given,
        parts_apart=config.preview.parts_apart,
        motion_guidance=config.preview.motion_guidance,
        virtual_camera=config.preview.virtual_camera,
    )


def _motion(config: TrainConfig, dataset: Path, started: Model | None) -> MotionMap | None:
    """That of the earlier model, so that a number keeps its meaning; else the dataset's."""
    if not isinstance(config.network, VideoUNetConfig):
        return None
    if started is not None and started.motion is not None:
        return started.motion
    scores = (clip.motion_score for clip in kept_clips(dataset))
    return MotionMap.of(score for score in scores if score is not None)


def _trained_on(dataset: Path, plan: Plan) -> TrainedOn:
    return TrainedOn(
        dataset=f"{dataset.name} {plan.dataset_version}",
        clips=plan.usable,
        steps=0,
        samples=0,
        buckets=tuple(row.bucket for row in plan.rows),
    )


def _first_captions(dataset: Path, count: int) -> tuple[str, ...]:
    captions = (clip.captions[0].text for clip in kept_clips(dataset) if clip.captions)
    return tuple(islice(dict.fromkeys(text for text in captions if text.strip()), count))


def _without_none(record: Any) -> Any:  # noqa: ANN401 - nested plain values
    if isinstance(record, dict):
        return {key: _without_none(value) for key, value in record.items() if value is not None}
    if isinstance(record, list | tuple):
        return [_without_none(value) for value in record]
    return str(record) if isinstance(record, Path) else record
