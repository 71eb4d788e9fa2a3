"""The released folders, small and with random weights: the same frames as diffusers, there and back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinema.convert.svd_folders import convert_svd, export_svd
from kinema.denoiser import VideoShape, sample_latents
from kinema.denoiser.pictures import Augmentation, first_frame
from kinema.diffusion.guidance import Guidance
from kinema.encoders.pictures import ClipImageEncoder, published_resize
from kinema.errors import CheckpointError, OutputError
from kinema.generate.pipeline import GenerateConfig, generate
from kinema.model import load_model
from kinema.progress import Silent
from kinema.video.transforms import to_video
from kinema.video.writer import write_image

os.environ["HF_HUB_OFFLINE"] = "1"
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

FRAMES, SIDE = 5, 64
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")


def small_unet(in_channels: int = 8) -> Any:
    return diffusers.UNetSpatioTemporalConditionModel(
        in_channels=in_channels,
        out_channels=4,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        block_out_channels=(32, 64),
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,
        layers_per_block=1,
        cross_attention_dim=16,
        num_attention_heads=(2, 4),
        num_frames=FRAMES,
    )


def small_vae() -> Any:
    return diffusers.AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * 4,
        block_out_channels=(32, 32, 32, 32),
        layers_per_block=1,
        latent_channels=4,
        force_upcast=False,
    )


def small_clip() -> Any:
    config = transformers.CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=224,
        patch_size=56,
        projection_dim=16,
    )
    return transformers.CLIPVisionModelWithProjection(config)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `stable-video-diffusion-img2vid` folder."""
    folder = tmp_path_factory.mktemp("released")
    torch.manual_seed(0)
    scheduler = diffusers.EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        use_karras_sigmas=True,
        sigma_min=0.002,
        sigma_max=700.0,
        timestep_spacing="leading",
        timestep_type="continuous",
        steps_offset=1,
    )
    pipeline = diffusers.StableVideoDiffusionPipeline(
        vae=small_vae(),
        image_encoder=small_clip(),
        unet=small_unet(),
        scheduler=scheduler,
        feature_extractor=transformers.CLIPImageProcessor(),
    )
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] * 4
    return np.stack([rows, columns, 255 - rows], axis=-1).astype(np.uint8)


def theirs(folder: Path, picture: np.ndarray, noise: torch.Tensor) -> np.ndarray:
    """Frames of diffusers' own pipeline, `t h w 3` in [0, 1]."""
    from PIL import Image

    pipeline = diffusers.StableVideoDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        Image.fromarray(picture),
        height=SIDE,
        width=SIDE,
        num_frames=FRAMES,
        num_inference_steps=4,
        min_guidance_scale=1.0,
        max_guidance_scale=3.0,
        fps=7,
        motion_bucket_id=90,
        noise_aug_strength=0.02,
        latents=noise.transpose(1, 2),
        generator=torch.Generator().manual_seed(5),
        output_type="np",
    )
    return np.asarray(made.frames[0])


@torch.no_grad()
def ours(folder: Path, picture: np.ndarray, noise: torch.Tensor) -> np.ndarray:
    model = load_model(folder)
    seen = to_video(picture[None])[None, :, 0]
    drawn = torch.randn(seen.shape, generator=torch.Generator().manual_seed(5))
    augmentation = Augmentation(sigma=torch.tensor([0.02]), noise=drawn)
    assert model.image_encoder is not None
    beside = first_frame(model.autoencoder, model.image_encoder, seen, FRAMES, augmentation)
    latents = sample_latents(
        model,
        "",
        VideoShape(height=SIDE, width=SIDE, frames=FRAMES, fps=7.0),
        steps=4,
        guidance_scale=Guidance(scale=3.0, first=1.0),
        generator=torch.Generator(),
        beside=beside,
        facts={"motion": torch.tensor([90.0])},
        noise=noise,
    )
    video = model.autoencoder.decode(latents)[0].clamp(-1, 1) * 0.5 + 0.5
    return video.permute(1, 2, 3, 0).numpy()


def test_the_same_frames_as_diffusers_from_the_same_noise_there_and_back(
    released: Path, picture: np.ndarray, tmp_path: Path
) -> None:
    summary = convert_svd(released, tmp_path / "model", embed=True)
    assert (summary["task"], summary["preset"], summary["frames"]) == ("image-to-video", "svd", FRAMES)
    noise = torch.randn(1, 4, FRAMES, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(1))
    expected = theirs(released, picture, noise)
    assert expected.std() > 0.01
    assert np.abs(ours(tmp_path / "model", picture, noise) - expected).mean() <= 1 / 255 / 10
    export_svd(tmp_path / "model", tmp_path / "back")
    again = theirs(tmp_path / "back", picture, noise)
    assert np.abs(again - expected).mean() <= 1e-6


def test_the_command_line_moves_a_picture_with_a_converted_model(
    released: Path, picture: np.ndarray, tmp_path: Path
) -> None:
    convert_svd(released, tmp_path / "model")
    write_image(tmp_path / "picture.png", picture)
    config = GenerateConfig(
        prompt="", image=tmp_path / "picture.png", steps=2, height=SIDE, width=SIDE, motion=200.0
    )
    made = generate(tmp_path / "model", config, tmp_path / "a.mp4", Silent())
    assert (made["frames_written"], made["guidance_scale"], made["guidance_first"]) == (FRAMES, 2.5, 1.0)
    assert made["motion"] == 200.0


def test_an_image_model_becomes_a_video_model(tmp_path: Path) -> None:
    folder = tmp_path / "sd21"
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
    )
    unet.save_pretrained(folder / "unet")
    vae = diffusers.AutoencoderKL(
        block_out_channels=(32, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
    )
    vae.save_pretrained(folder / "vae")
    save_text_encoder(folder)
    diffusers.DDIMScheduler(prediction_type="v_prediction").save_pretrained(folder / "scheduler")
    summary = convert_svd(folder, tmp_path / "model", embed=True)
    assert summary["task"] == "text-to-video"
    config = GenerateConfig(prompt="a red square", steps=2, height=64, width=64, frames=3)
    made = generate(tmp_path / "model", config, tmp_path / "a.mp4", Silent())
    assert made["frames_written"] == 3


def save_text_encoder(folder: Path) -> None:
    """A CLIPTextModel and its tokenizer, both small."""
    words = ["a", "red", "square"]
    vocabulary = {f"{word}</w>": index for index, word in enumerate(words)}
    letters = sorted({letter for word in words for letter in word})
    for piece in [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]:
        vocabulary.setdefault(piece, len(vocabulary))
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(
        str(folder / "tokenizer" / "vocab.json"),
        str(folder / "tokenizer" / "merges.txt"),
        model_max_length=77,
    )
    tokenizer.save_pretrained(folder / "tokenizer")
    config = transformers.CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=vocabulary["<|startoftext|>"],
        eos_token_id=vocabulary["<|endoftext|>"],
    )
    transformers.CLIPTextModel(config).save_pretrained(folder / "text_encoder")


@pytest.mark.parametrize("size", [(64, 48), (300, 500), (224, 224), (1000, 130)])
def test_pictures_are_resized_as_published(size: tuple[int, int]) -> None:
    from diffusers.pipelines.stable_video_diffusion import pipeline_stable_video_diffusion as pipeline

    pictures = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = pipeline._resize_with_antialiasing(pictures, (224, 224))
    torch.testing.assert_close(published_resize(pictures, 224), expected, atol=1e-5, rtol=0)


def test_what_is_missing_or_does_not_fit_is_named(released: Path, tmp_path: Path) -> None:
    import shutil

    with pytest.raises(CheckpointError, match=r"unet/config.json is missing"):
        convert_svd(tmp_path, tmp_path / "a")
    broken = tmp_path / "broken"
    shutil.copytree(released, broken)
    shutil.rmtree(broken / "image_encoder")
    with pytest.raises(CheckpointError, match=r"image_encoder/config.json is missing"):
        convert_svd(broken, tmp_path / "b")
    small_unet(in_channels=9).save_pretrained(broken / "unet")
    shutil.copytree(released / "image_encoder", broken / "image_encoder")
    with pytest.raises(CheckpointError, match="in_channels is 9, expected 8"):
        convert_svd(broken, tmp_path / "c")
    shutil.copytree(released / "unet", broken / "unet", dirs_exist_ok=True)
    record = json.loads((broken / "unet" / "config.json").read_text())
    record["cross_attention_dim"] = 24
    (broken / "unet" / "config.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=r"has shape \(.*\), expected \("):
        convert_svd(broken, tmp_path / "d")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    with pytest.raises(OutputError, match="is not empty"):
        convert_svd(released, tmp_path / "full")


def test_only_published_encoders_go_back(squares: Path, small_unet_run: Any, tmp_path: Path) -> None:
    from dataclasses import replace

    from kinema.train.loop import train

    train(replace(small_unet_run, steps=1, save_every=1), squares, tmp_path / "run")
    with pytest.raises(CheckpointError, match="its encoders are PatchPCA"):
        export_svd(tmp_path / "run", tmp_path / "out")


def test_a_clip_encoder_of_another_width_is_refused(released: Path) -> None:
    from kinema.encoders.pictures import ClipImageConfig

    encoder = ClipImageEncoder(ClipImageConfig(source=str(released), width=8))
    with pytest.raises(CheckpointError, match="width is 16, the model was made with 8"):
        encoder.encode(torch.zeros(1, 3, 32, 32))
