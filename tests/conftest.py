"""Options and fixtures that several test folders share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from kinema.train.config import TrainConfig

# Before anything imports torch: two test processes with a pool of threads each only fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    # pytest has an option of this name (its list of fixtures, also called --funcargs): take the name over.
    parser._anonymous._arggroup.conflict_handler = "resolve"
    parser.addoption(
        "--fixtures",
        dest="fixtures_folder",
        metavar="DIR",
        type=Path,
        default=Path(__file__).parent / "fixtures",
        help="folder of parity fixtures (opensora/..., svd/...)",
    )


def moving_square(colour: tuple[int, int, int], frames: int = 24, side: int = 32) -> np.ndarray:
    """A square that goes right, `t h w 3`."""
    video = np.full((frames, side, side, 3), 90, np.uint8)
    for index in range(frames):
        video[index, 10:22, 2 + index % 18 : 12 + index % 18] = colour
    return video


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of two captioned clips: a red and a green square that move, two seconds at 12 fps."""
    from kinema.files import write_text
    from kinema.manifest import Caption, Clip, clip_id, write_clips
    from kinema.video.writer import write_video

    folder = tmp_path_factory.mktemp("squares")
    rows = []
    for colour, rgb in {"red": (220, 40, 40), "green": (40, 200, 60)}.items():
        path = folder / f"{colour}.mp4"
        write_video(path, moving_square(rgb), fps=12)
        row = Clip(
            clip_id=clip_id(colour, 0, 24),
            source_id=colour,
            source_path=str(path),
            start_frame=0,
            end_frame=24,
            start_s=0.0,
            end_s=2.0,
            cut_kind_start="start",
            cut_kind_end="end",
            frames=24,
            fps=12.0,
            width=32,
            height=32,
            aspect_ratio=1.0,
            duration_s=2.0,
            captions=(Caption(text=f"a {colour} square moves", kind="human"),),
        )
        rows.append(row)
    write_text(folder / "dataset" / "dataset.toml", "")
    write_clips(folder / "dataset", "0", rows)
    return folder / "dataset"


@pytest.fixture(scope="session")
def small_run() -> TrainConfig:
    """The smallest training run on `squares`: video and images, masks, crops, flips, dropped captions."""
    from kinema.dataset.buckets import BucketRule, Timed
    from kinema.dataset.config import DataConfig
    from kinema.diffusion.masking import MaskConfig
    from kinema.encoders.embedded import PatchPCAConfig, WordTextConfig
    from kinema.nn import STDiT2Config
    from kinema.train.config import PreviewConfig, TrainConfig

    return TrainConfig(
        network=STDiT2Config(depth=1, hidden=24, heads=2, input_sq_size=32, caption_drop=0.3),
        autoencoder=PatchPCAConfig(patch=8, components=6, whitening=0.5),
        text_encoder=WordTextConfig(width=8, heads=2, max_tokens=6),
        data=DataConfig(
            buckets=(BucketRule(resolution="32px", frames=4), BucketRule(resolution="32px", frames=1)),
            bucketing=Timed(fps=6.0, video_as_image=0.3),
            batch_size=4,
            flip=True,
            workers=0,
        ),
        masks=MaskConfig(first=0.3, scattered=0.3, ends=0.2),
        preview=PreviewConfig(steps=3),
        steps=6,
        save_every=3,
        tensorboard=False,
    )


@pytest.fixture(scope="session")
def small_unet_run(small_run: TrainConfig) -> TrainConfig:
    """The same with a video UNet under EDM."""
    from dataclasses import replace

    from kinema.diffusion.edm import EDMConfig
    from kinema.nn import VideoUNetConfig
    from kinema.train.optim import AdamWConfig

    network = VideoUNetConfig(channels=(32,), heads=(1,), attention=(True,), layers=1, caption_drop=0.3)
    return replace(small_run, network=network, process=EDMConfig(), optim=AdamWConfig(lr=1e-3))


@pytest.fixture(scope="session")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small videos of a square that moves, captioned by their names."""
    from kinema.video.writer import write_video

    folder = tmp_path_factory.mktemp("footage")
    for name, colour in (("a red square moves", 0), ("a blue square moves", 2)):
        frames = np.full((48, 96, 96, 3), 90, np.uint8)
        for index, frame in enumerate(frames):
            frame[30:60, index : index + 30, colour] = 250
        write_video(folder / f"{name}.mp4", frames, fps=24)
    return folder


@pytest.fixture(scope="session")
def dataset(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset folder of `footage`."""
    from kinema.curate.pipeline import CurateConfig, curate

    folder = tmp_path_factory.mktemp("curated") / "dataset"
    assert curate([footage], folder, CurateConfig()).kept == 2
    return folder


@pytest.fixture(scope="session")
def published_encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `t5`, `vae` and `cogvideox`: the real classes, small and with random weights."""
    import torch

    os.environ["HF_HUB_OFFLINE"] = "1"
    diffusers = pytest.importorskip("diffusers")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("encoders")
    torch.manual_seed(0)
    t5 = transformers.T5Config(vocab_size=40, d_model=24, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    transformers.T5EncoderModel(t5).save_pretrained(folder / "t5")
    small_tokenizer().save_pretrained(folder / "t5")
    small = {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4}
    halves = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    }
    diffusers.AutoencoderKL(**small, **halves, latent_channels=4).save_pretrained(folder / "vae")
    sizes = {"latent_channels": 6, "sample_height": 16, "sample_width": 16}
    diffusers.AutoencoderKLCogVideoX(**small, **sizes).save_pretrained(folder / "cogvideox")
    return folder


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CLIP as transformers saves it, small and with random weights."""
    import json
    import string

    import torch

    os.environ["HF_HUB_OFFLINE"] = "1"
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("clip")
    letters = [*string.ascii_lowercase, *(f"{letter}</w>" for letter in string.ascii_lowercase)]
    words = [*letters, "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    transformers.CLIPTokenizer.from_pretrained(folder).save_pretrained(folder)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    marks = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    text = {**small, **marks, "vocab_size": len(words), "max_position_embeddings": 24}
    vision = {**small, "image_size": 32, "patch_size": 8}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    torch.manual_seed(0)
    transformers.CLIPModel(config).save_pretrained(folder)
    return folder


def small_tokenizer() -> Any:
    """A word tokenizer with T5's marks."""
    import tokenizers
    import transformers

    words = ["<pad>", "</s>", "<unk>", "a", "red", "green", "square", "moves"]
    model = tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    fast = tokenizers.Tokenizer(model)
    fast.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    fast.post_processor = tokenizers.processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=fast, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
