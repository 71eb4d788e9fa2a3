from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kinema.denoiser import Given
from kinema.diffusion.guidance import Guidance
from kinema.diffusion.protocols import Denoise, Denoised
from kinema.encoders.latent_frames import TimeGrid
from kinema.generate.conditioning import Reference, frames_at
from kinema.generate.film import Film, faded, latents_hash
from kinema.generate.tasks import Connect, Edit, Extend, FromText, Plan, Request, Task, Window, plan_of
from kinema.generate.windows import (
    Carried,
    Made,
    Row,
    Settings,
    given_of,
    sample_batch,
    sample_windows,
    shown_frames,
)
from kinema.model import Model, load_model
from kinema.shapes import Size

SETTINGS = Settings(height=32, width=32, fps=6.0, steps=3, guidance=Guidance(scale=2.0))


@pytest.fixture(scope="module")
def loaded(model: Path) -> Model:
    return load_model(model)


def plan(task: Task, prompts: tuple[str, ...] = ("red square",), **values: object) -> Plan:
    values = {"frames": 5, "fps": 6.0, "grid": TimeGrid(1)} | values
    return plan_of(task, Request(prompts=prompts, **values))


def sampled(model: Model, made: Plan, seed: int = 0) -> list[Made]:
    with torch.inference_mode():
        generator = torch.Generator().manual_seed(seed)
        return list(sample_windows(model, made, SETTINGS, generator))


def row(prompt: str, seed: int, given: Given | None = None) -> Row:
    window = Window(prompt=prompt, frames=4, shown=(0, 4))
    return Row(window=window, given=given, generator=torch.Generator().manual_seed(seed))


def frames_of(values: list[int]) -> Iterator[np.ndarray]:
    return iter([np.full((2, 2, 3), value, np.uint8) for value in values])


def test_given_frames_come_back_bit_for_bit(loaded: Model, clip: Path) -> None:
    made = plan(Connect(start=clip, end=clip, keep=2), frames=7)
    given = given_of(loaded, made.windows[0], SETTINGS, made.lengths)
    assert given is not None
    latents = sampled(loaded, made)[0].latents
    kept = ~given.denoise_mask[0]
    assert kept.tolist() == [True, True, False, False, False, True, True]
    assert torch.equal(latents[:, :, kept], given.latents[:, :, kept])
    assert not torch.isclose(latents[:, :, ~kept], given.latents[:, :, ~kept]).any()


def test_given_frames_are_shown_as_they_were(loaded: Model, clip: Path) -> None:
    """With `keep_given` their pixels come back; the latents are the same without it."""
    settings = replace(SETTINGS, keep_given=0.15)
    made = plan(FromText(references=(Reference(path=clip, frames=1),)), ("a", "b"), overlap=2)
    true = next(frames_at(clip, range(1), Size(32, 32), 6.0))
    with torch.inference_mode():
        first, second = sample_windows(loaded, made, settings, torch.Generator().manual_seed(0))
    plain = sampled(loaded, made)
    assert np.array_equal(first.frames[0], true)
    assert not np.array_equal(plain[0].frames[0], true)
    assert torch.equal(second.latents, plain[1].latents)
    assert (len(first.frames), len(second.frames)) == (5, 3)


def test_videos_with_given_frames_have_their_own_guidance() -> None:
    settings = replace(SETTINGS, guidance_given=Guidance(scale=1.0))
    text, taken_over = (Window(prompt="a", frames=4, shown=(0, 4), overlap=overlap) for overlap in (0, 1))
    edited = replace(text, references=(Reference(path=Path("a.png"), strength=0.5),))
    exact = replace(text, references=(Reference(path=Path("a.png")),))
    scales = [settings.guidance_of(window).scale for window in (text, edited, taken_over, exact)]
    assert scales == [2.0, 2.0, 1.0, 1.0]
    assert SETTINGS.guidance_of(exact).scale == 2.0


def test_the_overlap_is_handed_on_as_latents(loaded: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[Tensor] = []
    monkeypatch.setattr(type(loaded.autoencoder), "encode", lambda _, video: encoded.append(video))
    first, second, third = sampled(loaded, plan(FromText(), ("red square", "b", "c"), overlap=2))
    assert not encoded
    assert torch.equal(second.latents[:, :, :2], first.latents[:, :, -2:])
    assert torch.equal(third.latents[:, :, :2], second.latents[:, :, -2:])
    assert [len(made.frames) for made in (first, second, third)] == [5, 3, 3]


def test_a_loop_ends_in_its_first_frame(loaded: Model) -> None:
    opening, whole = sampled(loaded, plan(FromText(), loop=True))
    assert torch.equal(whole.latents[:, :, 0], opening.latents[:, :, 0])
    assert torch.equal(whole.latents[:, :, -1], opening.latents[:, :, 0])
    assert (len(opening.frames), len(whole.frames), whole.latents.shape[2]) == (0, 5, 6)
    first, last = sampled(loaded, plan(FromText(), ("a", "b"), loop=True))
    assert torch.equal(last.latents[:, :, -1], first.latents[:, :, 0])


def test_memory_does_not_grow_with_the_segments(loaded: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is carried stays: the first latent frame and the overlap."""
    alive: list[Carried] = []

    class Watched(Carried):
        def __init__(self, *parts: Tensor) -> None:
            super().__init__(*parts)
            alive[:] = [self]

    monkeypatch.setattr("kinema.generate.windows.Carried", Watched)
    made = plan(FromText(), ("red square",) * 4, overlap=2)
    with torch.inference_mode():
        for window in sample_windows(loaded, made, SETTINGS, torch.Generator().manual_seed(0)):
            held = [alive[0].head, alive[0].tail]
            assert (
                sum(tensor.untyped_storage().nbytes() for tensor in held)
                <= 3 * window.latents[:, :, :1].numel() * 4
            )


def test_an_edit_begins_at_its_share_of_the_noise(
    loaded: Model, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the exact denoiser of unit Gaussian latents: the weaker, the nearer to what was given."""
    seen: list[Tensor] = []

    def exact(*_: object, **__: object) -> Denoise:
        def denoise(latents: Tensor, sigma: Tensor) -> Denoised:
            seen.append(sigma[0])
            return Denoised(latents / (1 + sigma[:, None, :, None, None] ** 2))

        return denoise

    monkeypatch.setattr("kinema.denoiser.guided.build_denoise", exact)
    settings = Settings(height=32, width=32, fps=6.0, steps=20, guidance=Guidance())
    distances = []
    for strength in (0.1, 0.5, 1.0):
        seen.clear()
        made = plan(Edit(clip=clip, strength=strength), frames=10)
        given = given_of(loaded, made.windows[0], settings, made.lengths)
        assert given is not None
        row = Row(window=made.windows[0], given=given, generator=torch.Generator().manual_seed(0))
        latents = sample_batch(loaded, [row], settings)
        distances.append((latents - given.latents).square().mean().item())
        assert sum(bool((sigma > 0).all()) for sigma in seen) == round(20 * strength)
    assert distances == sorted(distances)
    assert distances[0] < 0.3 * distances[2]


def test_a_prompt_does_not_depend_on_its_neighbours(loaded: Model) -> None:
    latents = torch.randn(1, *SETTINGS.shape(4).latent_shape(loaded.autoencoder))
    given = Given(latents=latents, denoise_mask=torch.tensor([[False, True, True, True]]))
    with torch.inference_mode():
        alone = sample_batch(loaded, [row("red square", 3)], SETTINGS)
        beside = sample_batch(
            loaded, [row("green square", 1), row("red square", 3), row("a", 2, given)], SETTINGS
        )
        other = sample_batch(loaded, [row("red square", 4)], SETTINGS)
    torch.testing.assert_close(beside[1:2], alone, atol=1e-4, rtol=1e-4)
    assert torch.equal(beside[2, :, 0], latents[0, :, 0])
    assert not torch.allclose(other, alone, atol=1e-3)


def test_a_window_that_is_all_given_is_not_sampled(loaded: Model, pictures: tuple[Path, Path]) -> None:
    window = Window(prompt="a", frames=1, references=(Reference(path=pictures[0]),), shown=(0, 1))
    given = given_of(loaded, window, SETTINGS, {pictures[0]: 1})
    counted: list[int] = []
    row = Row(window=window, given=given, generator=torch.Generator().manual_seed(0))
    assert given is not None
    latents = sample_batch(loaded, [row], SETTINGS, lambda: counted.append(1))
    assert torch.equal(latents, given.latents)
    assert not counted


def test_one_stream_fades_into_the_other() -> None:
    stream = faded(frames_of([0, 0, 0, 0]), frames_of([90, 90, 90]), 4, 2)
    assert [int(frame[0, 0, 0]) for frame in stream] == [0, 0, 30, 60, 90]


def test_footage_stands_around_the_new_frames(loaded: Model, clip: Path) -> None:
    own = list(frames_at(clip, range(10), Size(32, 32), 6.0))
    forwards = list(film(loaded, plan(Extend(clip=clip, keep=2))))
    assert len(forwards) == 10 + 3
    assert np.array_equal(forwards[:8], own[:8])
    assert not np.array_equal(forwards[8], own[8])
    backwards = list(film(loaded, plan(Extend(clip=clip, keep=2, backwards=True))))
    assert len(backwards) == 3 + 10
    assert np.array_equal(backwards[5:], own[2:])
    between = list(film(loaded, plan(Connect(start=clip, end=clip, keep=1))))
    assert len(between) == 10 + 3 + 10
    assert np.array_equal([*between[:9], *between[14:]], own[:9] + own[1:])


def film(model: Model, made: Plan) -> Film:
    return Film(made, SETTINGS, iter(sampled(model, made)))


def test_what_was_seen_is_measured(loaded: Model) -> None:
    made = plan(FromText(), ("red square", "b"), overlap=2)
    windows = sampled(loaded, made)
    seen = Film(made, SETTINGS, iter(windows))
    assert len(list(seen)) == seen.frames == 8
    assert seen.drift is not None
    assert seen.drift["mean_first"] == pytest.approx(windows[0].frames.mean(), abs=1e-3)
    assert seen.drift["contrast_last"] == pytest.approx(windows[1].frames.std(), abs=1e-3)
    assert seen.segments[1]["latents_sha256"] == latents_hash(windows[1].latents)
    single = film(loaded, plan(FromText()))
    list(single)
    assert single.drift is None
    assert single.latents_sha256 == single.segments[0]["latents_sha256"]


def test_a_temporal_autoencoder_decodes_whole_windows(loaded: Model) -> None:
    class Four:
        temporal_factor = 4

        def decode(self, latents: Tensor) -> Tensor:
            return latents.mean(1, keepdim=True).expand(-1, 3, -1, -1, -1).repeat_interleave(4, 2)[:, :, 3:]

    other = Model(
        network=loaded.network,
        process=loaded.process,
        autoencoder=Four(),  # type: ignore[arg-type]
        text_encoder=loaded.text_encoder,
        sampling=loaded.sampling,
        trained_on=loaded.trained_on,
    )
    latents = torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 1, 3, 1, 1)
    frames = shown_frames(other, Window(prompt="a", frames=8, shown=(0, 8)), latents)
    assert frames[:, 0, 0, 0].tolist() == [0, 128, 128, 128, 128, 255, 255, 255]
