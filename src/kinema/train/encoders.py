"""The encoders of a run: made from its dataset, read from its folder, of another model, or published."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from kinema.dataset.loader import iterate_batches
from kinema.dataset.store import kept_clips
from kinema.diffusion.edm import EDMConfig, adapting
from kinema.encoders.autoencoder import PublishedTemporalAutoencoder, TemporalAutoencoderConfig
from kinema.encoders.autoencoder_kl import open_pretrained
from kinema.encoders.clip_text import ClipTextConfig, ClipTextEncoder
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
from kinema.encoders.pictures import ClipImageConfig, ClipImageEncoder, PictureEncoder
from kinema.encoders.protocols import Autoencoder, ImageEncoder, NoText, TextEncoder
from kinema.encoders.text import T5Config, T5TextEncoder
from kinema.errors import CheckpointError, ConfigError
from kinema.model import Model
from kinema.nn import NetworkConfig, STDiT2Config, VideoUNet, VideoUNetConfig
from kinema.train.config import TrainConfig
from kinema.train.sizes import EncoderSizes, RunEncoders
from kinema.train.stages import stages

_VAE, _TEXT = "vae", "text_encoder"


def run_encoders(
    config: TrainConfig, dataset: Path, folder: Path, started: Model | None, *, fresh: bool
) -> RunEncoders:
    """The encoders of the task; what is made is written to the run's folder."""
    pictured = config.task != "text-to-video"
    image = _image_encoder(config, started) if pictured else None
    if started is not None:
        keeps = pictured or config.lora is not None
        text = started.text_encoder if keeps else _taught(started.text_encoder, dataset, config.seed)
        text = NoText() if pictured else text
        return RunEncoders(started.autoencoder, text, image)
    text = NoText() if pictured else _text_encoder(config, dataset, folder, fresh)
    return RunEncoders(_autoencoder(config, dataset, folder, fresh), text, image)


def fresh_encoders(config: TrainConfig, dataset: Path, started: Model | None) -> RunEncoders:
    """What a run of text to video on this dataset would begin with; nothing is written."""
    if started is not None:
        return RunEncoders(started.autoencoder, started.text_encoder)
    return RunEncoders(
        _autoencoder(config, dataset, None, fresh=True), _text_encoder(config, dataset, None, fresh=True)
    )


def with_encoders(config: TrainConfig, encoders: RunEncoders, started: Model | None) -> TrainConfig:
    """The config with everything that follows from the encoders, the preset, or the model started from."""
    if started is None:
        whole = with_sizes(config, EncoderSizes.of(encoders))
    else:
        _check_task(config, EncoderSizes.of(encoders), started.network.config)
        whole = _as_started(config, started, encoders)
    if getattr(whole.network, "keeps_given", False) and getattr(whole.process, "prediction", "") != "clean":
        raise ConfigError('network.keeps_given: set process.prediction to "clean", which it is for')
    return whole


def with_sizes(config: TrainConfig, sizes: EncoderSizes) -> TrainConfig:
    """The config of a run that starts from nothing, with what follows from its encoders and the preset."""
    _check_task(config, sizes, config.network)
    return replace(config, network=_network_for(config, sizes))


def known_encoders(config: TrainConfig, started: Model) -> RunEncoders:
    """Those of a run that starts from a model; nothing is taught new words or written."""
    if config.task == "text-to-video":
        return RunEncoders(started.autoencoder, started.text_encoder)
    return RunEncoders(started.autoencoder, NoText(), _image_encoder(config, started))


def _check_task(config: TrainConfig, sizes: EncoderSizes, network: NetworkConfig) -> None:
    if config.task == "text-to-video":
        return
    if isinstance(network, STDiT2Config):
        raise ConfigError(
            f'task = "{config.task}" is for a video-unet; a stdit2 learns to go on from given frames by masks'
        )
    if sizes.temporal_factor != 1:
        raise ConfigError(f'task = "{config.task}" needs an autoencoder of one frame a latent frame')


def _network_for(config: TrainConfig, sizes: EncoderSizes) -> NetworkConfig:
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
                in_channels=sizes.latent_channels,
                caption_channels=sizes.context_width,
                max_tokens=sizes.words,
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
            network = replace(network, context_width=sizes.context_width)
            return _for_task(config, network, sizes.latent_channels)


def _for_task(config: TrainConfig, network: VideoUNetConfig, channels: int) -> VideoUNetConfig:
    """Input channels, and what interpolation shows between two frames."""
    network = replace(network, out_channels=channels)
    placeholder = network.placeholder
    if config.task == "interpolation":
        placeholder = None if network.along_flow else placeholder or (1, 1)
    return replace(network, in_channels=network.channels_for(config.task), placeholder=placeholder)


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
    known = started.text_encoder
    if not isinstance(encoder, WordTextEncoder) or not isinstance(known, WordTextEncoder):
        return False
    return encoder.vocabulary != known.vocabulary


def trained_parts(model: Model) -> dict[str, nn.Module]:
    """What the optimizer changes: the network, and encoders that learn along."""
    parts: dict[str, nn.Module] = {"network": model.network}
    if isinstance(model.text_encoder, WordTextEncoder):
        parts["text_encoder"] = model.text_encoder
    if isinstance(model.image_encoder, PictureEncoder):
        parts["image_encoder"] = model.image_encoder
    return parts


def choose_trained(trained: nn.ModuleDict, trains: Literal["all", "time-embedding"]) -> None:
    """Let only the time embedding of a video UNet learn, or everything that is trained.

    The optimizer passes what has no gradient by.
    """
    network = dict(trained.named_children()).get("network")
    if not isinstance(network, VideoUNet):
        return
    trained.requires_grad_(trains == "all")
    if trains == "time-embedding":
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(adapting(name))


def _autoencoder(config: TrainConfig, dataset: Path, folder: Path | None, fresh: bool) -> Autoencoder:
    """Made and written to the folder, if there is one, or read from it."""
    asked = config.autoencoder
    if isinstance(asked, TemporalAutoencoderConfig):
        return PublishedTemporalAutoencoder(asked)
    if not isinstance(asked, PatchPCAConfig):
        return open_pretrained(asked)
    if folder is not None and not fresh:
        found = load_autoencoder(folder / _VAE)
        own = found.config if isinstance(found, PatchPCA) else None
        _same(folder, "autoencoder", own, asked)
        return found
    made = _fitted(config, asked, dataset)
    if folder is not None:
        save_autoencoder(folder / _VAE, made)
    return made


def _fitted(config: TrainConfig, asked: PatchPCAConfig, dataset: Path) -> PatchPCA:
    batches = iterate_batches(dataset, stages(config)[0].config.data)
    try:
        return fit_patch_pca(asked, (batch.video for batch in islice(batches, config.fit_batches)))
    finally:
        batches.close()


def _text_encoder(config: TrainConfig, dataset: Path, folder: Path | None, fresh: bool) -> TextEncoder:
    """Made and written to the folder, if there is one, or read from it."""
    asked = config.text_encoder
    if isinstance(asked, T5Config):
        return T5TextEncoder(asked)
    if isinstance(asked, ClipTextConfig):
        return ClipTextEncoder(asked)
    if folder is not None and not fresh:
        found = load_text_encoder(folder / _TEXT)
        _same(folder, "text_encoder", found.config if isinstance(found, WordTextEncoder) else None, asked)
        return found
    made = _untrained(config, asked, dataset)
    if folder is not None:
        save_text_encoder(folder / _TEXT, made)
    return made


def _untrained(config: TrainConfig, asked: WordTextConfig, dataset: Path) -> WordTextEncoder:
    captions = [caption.text for clip in kept_clips(dataset) for caption in clip.captions]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return WordTextEncoder(asked, build_vocabulary(captions, asked.phrases))


def _taught(encoder: TextEncoder, dataset: Path, seed: int) -> TextEncoder:
    """The text encoder of the model that a run starts from, with the dataset's own words besides."""
    if not isinstance(encoder, WordTextEncoder):
        return encoder
    captions = [caption.text for clip in kept_clips(dataset) for caption in clip.captions]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return encoder.with_words(build_vocabulary(captions, encoder.config.phrases))


def _image_encoder(config: TrainConfig, started: Model | None) -> ImageEncoder:
    """As wide as the context of the network that is started from."""
    if started is not None and started.image_encoder is not None:
        return started.image_encoder
    asked = config.image_encoder
    if isinstance(asked, ClipImageConfig):
        return ClipImageEncoder(asked)
    if started is not None and isinstance(started.network, VideoUNet):
        asked = replace(asked, width=started.network.config.context_width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return PictureEncoder(asked)


def _same(
    folder: Path,
    part: str,
    own: PatchPCAConfig | WordTextConfig | None,
    asked: PatchPCAConfig | WordTextConfig,
) -> None:
    if own != asked:
        raise CheckpointError(f"{folder}: {part} was made with {own}, the config asks for {asked}")


def _as_started(config: TrainConfig, started: Model, encoders: RunEncoders) -> TrainConfig:
    learned = getattr(config.process, "learned_variance", False)
    if learned != getattr(started.network.config, "learned_variance", False):
        raise ConfigError(
            f"process.learned_variance is {str(learned).lower()}, but start_from was trained with "
            f"{str(not learned).lower()}"
        )
    return replace(
        config,
        network=_started_network(config, started, encoders),
        preset=started.preset,
        **{
            part: getattr(encoder, "config", getattr(config, part))
            for part, encoder in (
                ("autoencoder", started.autoencoder),
                ("text_encoder", started.text_encoder),
            )
        },
    )


def _started_network(config: TrainConfig, started: Model, encoders: RunEncoders) -> NetworkConfig:
    """That of the earlier model, with the input channels of the task and conditions that came after."""
    drop = config.network.caption_drop
    match started.network.config:
        case STDiT2Config() as network:
            keeps = network.keeps_given or getattr(config.network, "keeps_given", False)
            return replace(network, caption_drop=drop, keeps_given=keeps)
        case VideoUNetConfig() as network:
            _check_context(network, encoders)
            asked = config.network if isinstance(config.network, VideoUNetConfig) else network
            known = [condition.name for condition in network.conditions]
            more = tuple(condition for condition in asked.conditions if condition.name not in known)
            grown = replace(
                network,
                caption_drop=drop,
                conditions=(*network.conditions, *more),
                placeholder=network.placeholder or asked.placeholder,
                along_flow=network.along_flow or asked.along_flow,
            )
            return _for_task(config, grown, network.out_channels)


def _check_context(network: VideoUNetConfig, encoders: RunEncoders) -> None:
    width = encoders.text.width if encoders.image is None else encoders.image.width
    if width != network.context_width:
        raise ConfigError(
            f"the network of start_from has a context {network.context_width} wide, the encoder gives {width}"
        )
