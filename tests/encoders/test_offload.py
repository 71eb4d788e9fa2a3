"""Encoders that are on the device only while they work, told by a record of their moves."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kinema.encoders.offload import offload
from kinema.errors import ConfigError
from kinema.generate.loading import ready_model
from kinema.generate.pipeline import GenerateConfig, request_record
from kinema.location import embedded_model
from kinema.model import load_model


class Traveller(nn.Module):
    """Writes down where it is and what it does there."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.diary: list[str] = []

    def to(self, device: torch.device | str) -> Traveller:
        """The meta device stands for a GPU; the weights stay, as they could not come back from there."""
        self.diary.append(str(device))
        return self

    def encode(self, video: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        """Calls another of its methods, as autoencoders do."""
        self.diary.append(f"encode {video.device}")
        return self.encode_unscaled(video=video) * scale

    def encode_unscaled(self, video: torch.Tensor) -> torch.Tensor:
        """Calls nothing."""
        self.diary.append("unscaled")
        return video + 1

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Fails."""
        self.diary.append("decode")
        raise RuntimeError("out of memory")


def test_a_call_takes_the_encoder_and_its_input_there_and_the_encoder_back():
    encoder = Traveller()
    offload(encoder, "meta")
    assert encoder.diary == ["cpu"]
    found = encoder.encode(torch.zeros(2), scale=2.0)
    assert encoder.diary == ["cpu", "meta", "encode meta", "unscaled", "cpu"]
    assert found.device.type == "meta"  # what comes out stays there, for the network
    encoder.encode_unscaled(video=torch.zeros(2))
    assert encoder.diary[5:] == ["meta", "unscaled", "cpu"]


def test_the_encoder_comes_back_after_a_failure():
    encoder = Traveller()
    offload(encoder, "meta")
    with pytest.raises(RuntimeError, match="out of memory"):
        encoder.decode(torch.zeros(2))
    assert encoder.diary == ["cpu", "meta", "decode", "cpu"]


def test_a_model_moves_its_network_for_good_and_computes_the_same():
    plain, offloaded = load_model(embedded_model()), load_model(embedded_model())
    assert offloaded.to("cpu", offloaded=True) is offloaded
    video = torch.rand(1, 3, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(offloaded.autoencoder.encode(video), plain.autoencoder.encode(video))
    text = [model.text_encoder.encode(["a red star"]).tokens for model in (plain, offloaded)]
    assert torch.equal(*text)
    assert not hasattr(offloaded.network, "encode")


def test_where_all_is_on_the_cpu_it_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="frees the memory of a GPU"):
        ready_model(embedded_model(), GenerateConfig(prompt="a star", offload=True))


def test_it_is_no_part_of_what_makes_a_video_what_it_is():
    asked, without = (GenerateConfig(prompt="a star", offload=offloaded) for offloaded in (True, False))
    assert request_record(asked) == request_record(without)
