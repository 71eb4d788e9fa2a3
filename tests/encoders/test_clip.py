"""CLIP from a transformers folder gives what transformers gives, and names a folder that holds none."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from kinema.encoders.clip import Clip, ClipConfig, prepared
from kinema.errors import CheckpointError

transformers = pytest.importorskip("transformers")


def pictures(height: int = 75, width: int = 111) -> np.ndarray:
    rough = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    return np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC) for one in rough])


def test_features_are_those_of_transformers(clip_folder: Path) -> None:
    model = transformers.CLIPModel.from_pretrained(clip_folder).eval()
    tokenizer = transformers.CLIPTokenizer.from_pretrained(clip_folder)
    texts = ["a red ball", "two dogs running around a very big tree in the garden of an old house"]
    tokens = tokenizer(texts, padding=True, truncation=True, max_length=24, return_tensors="pt")
    with torch.no_grad():
        theirs = model(pixel_values=prepared(pictures(), 32), **tokens)
    clip = Clip(ClipConfig(source=str(clip_folder)))
    assert torch.allclose(clip.images(pictures()), theirs.image_embeds, atol=1e-6)
    assert torch.allclose(clip.texts(texts), theirs.text_embeds, atol=1e-6)


@pytest.mark.parametrize("size", [(75, 111), (120, 40), (32, 32)])
def test_pixels_are_prepared_as_published(size: tuple[int, int]) -> None:
    image = pytest.importorskip("PIL.Image")
    processor = transformers.CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    theirs = processor([image.fromarray(one) for one in pictures(*size)], return_tensors="pt").pixel_values
    assert (prepared(pictures(*size), 32) - theirs).abs().max() < 0.04  # two grey levels


def test_a_folder_without_clip_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="check the folder"):
        Clip(ClipConfig(source=str(tmp_path))).images(pictures())
