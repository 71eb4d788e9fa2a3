"""Votes counted by pair: all that the likelihoods of pairwise comparison need to know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
from jaxtyping import Bool, Float, Int

from kinema.evaluate.votes import Vote

FIRST, SECOND, TIE = 0, 1, 2
_TOLD = attrgetter("model_a", "model_b", "outcome")


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Counts of the compared pairs `pairs[p] = (i, j)`, i < j, indices into `models`.

    `counts[p]` holds (i preferred, j preferred, tie); both_bad votes are ties there, and are counted
    once more in `both_bad`: being equally bad says that neither is better.
    """

    models: tuple[str, ...]
    pairs: Int[np.ndarray, "p 2"]
    counts: Float[np.ndarray, "p 3"]
    both_bad: Float[np.ndarray, " p"]

    @property
    def votes(self) -> int:
        return int(self.counts.sum())


def tally(votes: Sequence[Vote], models: Sequence[str] = ()) -> Tally:
    """Count `votes`; `models` adds models that have no vote yet."""
    alike = Counter(map(_TOLD, votes))
    names = tuple(sorted({*models, *(name for first, second, _ in alike for name in (first, second))}))
    index = {name: place for place, name in enumerate(names)}
    cells: dict[tuple[int, int], list[int]] = {}
    for (first, second, outcome), count in alike.items():
        i, j = index[first], index[second]
        cell = cells.setdefault((min(i, j), max(i, j)), [0, 0, 0, 0])
        cell[_outcome_column(outcome, swapped=i > j)] += count
        cell[3] += count * (outcome == "both_bad")
    pairs = np.array(sorted(cells), dtype=np.int64).reshape(-1, 2)
    table = np.array([cells[i, j] for i, j in pairs.tolist()], dtype=np.float64).reshape(-1, 4)
    return Tally(models=names, pairs=pairs, counts=table[:, :3], both_bad=table[:, 3])


def _outcome_column(outcome: str, *, swapped: bool) -> int:
    if outcome in ("tie", "both_bad"):
        return TIE
    return FIRST if (outcome == "a") != swapped else SECOND


def reachable(edges: Bool[np.ndarray, "*b m m"]) -> Bool[np.ndarray, "*b m m"]:
    """`[i, j]`: a path of one or more edges leads from i to j. Squares the relation log2(m) times."""
    paths = edges
    for _ in range(int(np.ceil(np.log2(max(edges.shape[-1], 2)))) + 1):
        step = paths.astype(np.float32)
        paths = paths | (step @ step > 0)
    return paths


def groups(counted: Tally) -> list[list[str]]:
    """Sets of models that votes connect; ratings can be compared only inside one set."""
    size = len(counted.models)
    linked = np.eye(size, dtype=bool)
    linked[counted.pairs[:, 0], counted.pairs[:, 1]] = True
    linked[counted.pairs[:, 1], counted.pairs[:, 0]] = True
    paths = reachable(linked)
    firsts = sorted({int(row.argmax()) for row in paths})
    return [[counted.models[j] for j in range(size) if paths[i, j]] for i in firsts]
