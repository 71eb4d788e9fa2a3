"""Before the first step: the folder, the plan, the encoders, the network, and what a run remembers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import tomli_w
import torch

from kinema.checkpoint import latest_checkpoint, write_json
from kinema.dataset.buckets import Timed
from kinema.dataset.loader import iterate_batches
from kinema.dataset.plan import Plan, make_plan
from kinema.dataset.store import kept_clips
from kinema.encoders.embedded import PatchPCA, WordTextEncoder, build_vocabulary, fit_patch_pca
from kinema.encoders.folder import load_autoencoder, load_text_encoder, save_autoencoder, save_text_encoder
from kinema.errors import CheckpointError, OutputError
from kinema.files import writable_folder, write_text
from kinema.model import Model, SamplingDefaults, TrainedOn, save_model
from kinema.nn import STDiT2, build_network
from kinema.train.config import TrainConfig
from kinema.train.state import TrainState

RESOLVED, CHECKPOINTS = "resolved.toml", "checkpoints"
_PUBLISHED_FPS = 24.0


@dataclass(kw_only=True)
class Run:
    """A run that is ready for its next step. `refused` names checkpoints that were damaged."""

    config: TrainConfig
    dataset: Path
    folder: Path
    plan: Plan
    state: TrainState
    model: Model
    prompts: tuple[str, ...]
    refused: tuple[str, ...] = ()

    @property
    def averaged_model(self) -> Model:
        """The model with the averaged weights, for previews; shares everything else."""
        text_encoder = self.model.text_encoder
        if "text_encoder" in self.state.average:
            text_encoder = self.state.average["text_encoder"]  # type: ignore[assignment]
        network = self.state.average["network"]
        assert isinstance(network, STDiT2)
        return replace(self.model, network=network, text_encoder=text_encoder)

    def export(self) -> None:
        """Write the model folder as of this step."""
        trained_on = replace(self.model.trained_on, steps=self.state.step, samples=self.state.samples)
        self.model = replace(self.model, trained_on=trained_on)
        average = {name: part.state_dict() for name, part in self.state.average.items()}
        save_model(self.folder, self.model, average)


def prepare(config: TrainConfig, dataset: Path, folder: Path, resume: bool) -> Run:
    """Check everything that can fail early, then build or restore the run."""
    plan = make_plan(dataset, config.data)
    _claim(folder, resume)
    fresh = not (folder / RESOLVED).is_file()
    autoencoder, text_encoder = (_make_encoders if fresh else _load_encoders)(config, dataset, folder)
    config = _with_encoders(config, autoencoder, text_encoder)
    write_json(folder / "plan.json", plan.as_dict())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = Model(
        network=_seeded_network(config),
        process=config.process,
        autoencoder=autoencoder,
        text_encoder=text_encoder,
        sampling=_sampling_defaults(config, plan),
        trained_on=_trained_on(dataset, plan),
    ).to(device)
    state = TrainState.fresh({"network": model.network, "text_encoder": text_encoder}, config.optim)
    refused: tuple[str, ...] = ()
    if (checkpoint := latest_checkpoint(folder / CHECKPOINTS)) is not None:
        state.restore(checkpoint)
        refused = checkpoint.refused
    write_text(folder / RESOLVED, tomli_w.dumps(_without_none(asdict(config))))
    return Run(
        config=config,
        dataset=dataset,
        folder=folder,
        plan=plan,
        state=state,
        model=model,
        prompts=config.preview.prompts or _first_captions(dataset, config.preview.count),
        refused=refused,
    )


def _claim(folder: Path, resume: bool) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        if not resume:
            raise OutputError(f"{folder} is not empty; go on with --resume, or name another folder")
        if not (folder / RESOLVED).is_file():
            raise OutputError(f"{folder} holds no run to resume (no {RESOLVED}); name another folder")
    writable_folder(folder)


def _make_encoders(config: TrainConfig, dataset: Path, folder: Path) -> tuple[PatchPCA, WordTextEncoder]:
    batches = iterate_batches(dataset, config.data)
    autoencoder = fit_patch_pca(
        config.autoencoder, (batch.video for batch in islice(batches, config.fit_batches))
    )
    captions = [caption.text for clip in kept_clips(dataset) for caption in clip.captions]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        text_encoder = WordTextEncoder(config.text_encoder, build_vocabulary(captions))
    save_autoencoder(folder / "vae", autoencoder)
    save_text_encoder(folder / "text_encoder", text_encoder)
    return autoencoder, text_encoder


def _load_encoders(config: TrainConfig, _dataset: Path, folder: Path) -> tuple[PatchPCA, WordTextEncoder]:
    autoencoder, text_encoder = load_autoencoder(folder / "vae"), load_text_encoder(folder / "text_encoder")
    if not isinstance(autoencoder, PatchPCA) or not isinstance(text_encoder, WordTextEncoder):
        raise CheckpointError(f"{folder} was made with other kinds of encoders; start a new run")
    for part, own, asked in (
        ("autoencoder", autoencoder.config, config.autoencoder),
        ("text_encoder", text_encoder.config, config.text_encoder),
    ):
        if own != asked:
            raise CheckpointError(f"{folder}: {part} was made with {own}, the config asks for {asked}")
    return autoencoder, text_encoder


def _with_encoders(config: TrainConfig, autoencoder: PatchPCA, text_encoder: WordTextEncoder) -> TrainConfig:
    network = replace(
        config.network,
        in_channels=autoencoder.latent_channels,
        caption_channels=text_encoder.width,
        max_tokens=text_encoder.max_tokens,
        learned_variance=config.process.learned_variance,
    )
    return replace(config, network=network)


def _seeded_network(config: TrainConfig) -> STDiT2:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return build_network(config.network)


def _sampling_defaults(config: TrainConfig, plan: Plan) -> SamplingDefaults:
    """The longest bucket that clips fill, and of those the fullest."""
    filled = [row for row in plan.rows if row.clips] or list(plan.rows)
    row = max(filled, key=lambda row: (row.bucket_frames, row.clips))
    bucketing = config.data.bucketing
    return SamplingDefaults(
        height=row.height,
        width=row.width,
        frames=row.bucket_frames,
        fps=bucketing.fps if isinstance(bucketing, Timed) else _PUBLISHED_FPS,
        steps=config.preview.steps,
        guidance_scale=config.preview.guidance_scale,
    )


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
    return record
