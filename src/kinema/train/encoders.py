"""The encoders of a run: made from its dataset, read from its folder, of another model, or published."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from kinema.dataset.loader import iterate_batches
from kinema.dataset.store import kept_clips
from kinema.diffusion.edm import EDMConfig
from kinema.encoders.autoencoder_kl import open_pretrained
from kinema.encoders.embedded import (
    PatchPCA,
    PatchPCAConfig,
    WordTextConfig,
    WordTextEncoder,
    build_vocabulary,
    fit_patch_pca,
)
from kinema.encoders.folder import load_autoencoder, load_text_encoder, save_autoencoder, save_text_encoder
from kinema.encoders.latent_frames import whole_frames
from kinema.encoders.protocols import Autoencoder, TextEncoder
from kinema.encoders.text import T5Config, T5TextEncoder
from kinema.errors import CheckpointError, ConfigError
from kinema.model import Model
from kinema.nn import NetworkConfig, STDiT2Config, VideoUNetConfig
from kinema.train.config import TrainConfig
from kinema.train.stages import stages

_VAE, _TEXT = "vae", "text_encoder"


def run_encoders(
    config: TrainConfig, dataset: Path, folder: Path, started: Model | None, *, fresh: bool
) -> tuple[Autoencoder, TextEncoder]:
    """Autoencoder and text encoder; what is made is written to the run's folder."""
    if started is not None:
        return started.autoencoder, _taught(started.text_encoder, dataset, config.seed)
    return _autoencoder(config, dataset, folder, fresh), _text_encoder(config, dataset, folder, fresh)


def with_encoders(
    config: TrainConfig, autoencoder: Autoencoder, text_encoder: TextEncoder, started: Model | None
) -> TrainConfig:
    """The config with everything that follows from the encoders, the preset, or the model started from."""
    if started is not None:
        return _as_started(config, started)
    return replace(config, network=_network_for(config, autoencoder, text_encoder))


def _network_for(config: TrainConfig, autoencoder: Autoencoder, text_encoder: TextEncoder) -> NetworkConfig:
    learned = getattr(config.process, "learned_variance", False)
    match config.network:
        case STDiT2Config() as network:
            if isinstance(config.process, EDMConfig) and config.process.told == "log":
                raise ConfigError(
                    'process.told = "log" is 0 for sigma 1, which this network takes for a given frame; '
                    'use process.told = "timestep"'
                )
            published = config.preset == "published"
            return replace(
                network,
                in_channels=autoencoder.latent_channels,
                caption_channels=text_encoder.width,
                max_tokens=text_encoder.max_tokens,
                learned_variance=learned,
                rope_first=network.rope_first or published,
                final_layer_published=network.final_layer_published or published,
                shared_position_scale=network.shared_position_scale or published,
            )
        case VideoUNetConfig() as network:
            if learned:
                raise ConfigError(
                    "process.learned_variance must be false: the video UNet has no channels for it"
                )
            channels = autoencoder.latent_channels
            return replace(
                network, in_channels=channels, out_channels=channels, context_width=text_encoder.width
            )


def check_lengths(config: TrainConfig, autoencoder: Autoencoder) -> None:
    """Raise `ConfigError` for a bucket whose clips do not fill their latent frames."""
    factor = autoencoder.temporal_factor
    for stage in stages(config):
        for rule in stage.config.data.buckets:
            whole = whole_frames(rule.frames, factor)
            if rule.keep_prob > 0 and rule.frames != whole:
                raise ConfigError(
                    f"bucket {rule.resolution} with frames = {rule.frames}: the autoencoder takes "
                    f"1 + {factor} k frames; make it {whole} or {whole - factor}"
                )


def learns_new_words(encoder: TextEncoder, started: Model) -> bool:
    """Whether a run's text encoder knows more words than that of the model it starts from."""
    known = getattr(started.text_encoder, "vocabulary", ())
    return getattr(encoder, "vocabulary", ()) != known


def trained_parts(model: Model) -> dict[str, nn.Module]:
    """What the optimizer changes: the network, and a text encoder that learns along."""
    parts: dict[str, nn.Module] = {"network": model.network}
    if isinstance(model.text_encoder, WordTextEncoder):
        parts["text_encoder"] = model.text_encoder
    return parts


def _autoencoder(config: TrainConfig, dataset: Path, folder: Path, fresh: bool) -> Autoencoder:
    asked = config.autoencoder
    if not isinstance(asked, PatchPCAConfig):
        return open_pretrained(asked)
    if not fresh:
        found = load_autoencoder(folder / _VAE)
        own = found.config if isinstance(found, PatchPCA) else None
        _same(folder, "autoencoder", own, asked)
        return found
    batches = iterate_batches(dataset, stages(config)[0].config.data)
    made = fit_patch_pca(asked, (batch.video for batch in islice(batches, config.fit_batches)))
    save_autoencoder(folder / _VAE, made)
    return made


def _text_encoder(config: TrainConfig, dataset: Path, folder: Path, fresh: bool) -> TextEncoder:
    asked = config.text_encoder
    if isinstance(asked, T5Config):
        return T5TextEncoder(asked)
    if not fresh:
        found = load_text_encoder(folder / _TEXT)
        _same(folder, "text_encoder", found.config if isinstance(found, WordTextEncoder) else None, asked)
        return found
    captions = [caption.text for clip in kept_clips(dataset) for caption in clip.captions]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        made = WordTextEncoder(asked, build_vocabulary(captions, asked.phrases))
    save_text_encoder(folder / _TEXT, made)
    return made


def _taught(encoder: TextEncoder, dataset: Path, seed: int) -> TextEncoder:
    """The text encoder of the model that a run starts from, with the dataset's own words besides."""
    if not isinstance(encoder, WordTextEncoder):
        return encoder
    captions = [caption.text for clip in kept_clips(dataset) for caption in clip.captions]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return encoder.with_words(build_vocabulary(captions, encoder.config.phrases))


def _same(
    folder: Path,
    part: str,
    own: PatchPCAConfig | WordTextConfig | None,
    asked: PatchPCAConfig | WordTextConfig,
) -> None:
    if own != asked:
        raise CheckpointError(f"{folder}: {part} was made with {own}, the config asks for {asked}")


def _as_started(config: TrainConfig, started: Model) -> TrainConfig:
    learned = getattr(config.process, "learned_variance", False)
    if learned != getattr(started.network.config, "learned_variance", False):
        raise ConfigError(
            f"process.learned_variance is {str(learned).lower()}, but start_from was trained with "
            f"{str(not learned).lower()}"
        )
    return replace(
        config,
        network=replace(started.network.config, caption_drop=config.network.caption_drop),
        preset=started.preset,
        **{
            part: getattr(encoder, "config", getattr(config, part))
            for part, encoder in (
                ("autoencoder", started.autoencoder),
                ("text_encoder", started.text_encoder),
            )
        },
    )
