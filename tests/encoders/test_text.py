from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kinema.encoders import pretrained
from kinema.encoders.caption_cleaning import clean_caption
from kinema.encoders.text import T5Config, T5TextEncoder
from kinema.errors import CheckpointError


@pytest.fixture
def encoder(published_encoders: Path) -> T5TextEncoder:
    return T5TextEncoder(T5Config(source=str(published_encoders / "t5"), width=24, max_tokens=6))


def test_captions_are_padded_and_cut(encoder: T5TextEncoder) -> None:
    encoded = encoder.encode(["A RED square", "", "a red square moves a green square"])
    assert encoded.tokens.shape == (3, 6, 24)
    assert encoded.tokens.dtype == torch.float32
    assert encoded.mask.sum(1).tolist() == [4, 1, 6]
    alone = encoder.encode(["a red square"])
    torch.testing.assert_close(encoded.tokens[:1, :4], alone.tokens[:, :4])


def test_padding_changes_no_word(encoder: T5TextEncoder) -> None:
    ids, mask = encoder._tokens(["a red square"])
    with torch.no_grad():
        short = encoder.part(input_ids=ids[:, :4], attention_mask=mask[:, :4]).last_hidden_state
    torch.testing.assert_close(encoder.encode(["a red square"]).tokens[:, :4], short)


def test_unknown_words_are_told(encoder: T5TextEncoder) -> None:
    assert encoder.unknown_words("a red moon, a green moon") == ["moon,", "moon"]


def test_a_width_that_does_not_fit_is_named(published_encoders: Path) -> None:
    wrong = T5TextEncoder(T5Config(source=str(published_encoders / "t5"), width=4096))
    with pytest.raises(CheckpointError, match="width is 24, the model was made with 4096"):
        wrong.encode(["a"])


def test_a_missing_library_names_the_extra() -> None:
    with pytest.raises(CheckpointError, match=r"need kinema_nowhere; .* pip .*kinema\[models\]"):
        pretrained.library("kinema_nowhere")


@pytest.mark.parametrize(
    ("caption", "cleaned"),
    [
        ("A dog runs.", "a dog runs."),
        ("See https://a.example/x?y=1 a dog", "see a dog"),
        ("visit www.dogs.org today", "visit today"),
        ("<p>A <b>dog</b> &amp; cat</p>", "a dog cat"),
        ("a dog @someone on the beach", "a dog on the beach"),
        ("photo 12345678 of a dog #4", "photo of a dog"),
        ("a dog at 192.168.0.1", "a dog at"),
        ("DSC_00123.jpg a dog", "a dog"),
        ("a dog (brown) [hd]", "a dog brown hd"),
        ("big-brown-lazy-old-dog", "big brown lazy old dog"),
        ("a \u201cbig\u201d dog\u2014running", 'a "big" dog-running'),
        ("dog,cat", "dog, cat"),
        ("\u72d7 a dog", "a dog"),
        ("a%20dog+runs", "a dog runs"),
        ("a dog 1920x1080 free download", "a dog"),
        ("'a dog'", "a dog"),
        ("", ""),
    ],
)
def test_captions_are_cleaned(caption: str, cleaned: str) -> None:
    assert clean_caption(caption) == cleaned


def test_cleaning_leaves_ordinary_words_alone() -> None:
    caption = "the camera pans left over a quiet harbour at dawn, two boats drift by; 3 gulls circle."
    assert clean_caption(caption) == caption
