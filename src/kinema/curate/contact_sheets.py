"""Rows of small pictures for the report: the best, the worst and the borderline clips of each filter."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float

from kinema.curate.filter_words import score_in_words
from kinema.curate.filters import Check

_SHOWN = 6
_WIDTH = 192


@dataclass
class Thumbnails:
    """Pictures as style rules, each in the page once however often it is shown, up to `most_bytes` in all."""

    folder: Path
    most_bytes: int
    rules: dict[str, str] = field(default_factory=dict)
    spent: int = 0
    left_out: int = 0

    def picture(self, clip_id: str, label: str) -> str:
        """HTML of the clip's picture, or of an empty frame where there is none."""
        if clip_id not in self.rules:
            self._add(clip_id)
        known = f" t-{clip_id}" if self.rules.get(clip_id) else ""
        return f'<div class="thumb{known}" role="img" aria-label="{html.escape(label)}"></div>'

    def style(self) -> str:
        """The rules that hold the pictures."""
        return "<style>" + "\n".join(rule for rule in self.rules.values() if rule) + "</style>"

    def _add(self, clip_id: str) -> None:
        encoded = _small_jpeg(self.folder / "thumbnails" / f"{clip_id}.jpg")
        if len(encoded) + self.spent > self.most_bytes:
            self.left_out += 1
            encoded = ""
        self.spent += len(encoded)
        rule = f".t-{clip_id}{{background-image:url(data:image/jpeg;base64,{encoded})}}"
        self.rules[clip_id] = rule if encoded else ""


@dataclass(frozen=True)
class Rows:
    """What the sheets say of clips, one entry a clip. `reasons` are in plain words."""

    clip_ids: Sequence[str]
    names: Sequence[str]
    start_s: Float[np.ndarray, " n"]
    kept: Bool[np.ndarray, " n"]
    reasons: Sequence[Sequence[str]]


def sheets(
    check: Check, values: Float[np.ndarray, " n"], rows: Rows, thumbnails: Thumbnails
) -> list[tuple[str, str]]:
    """(title, HTML) of the worst clips of a filter, the ones next to its threshold, and the best."""
    order = np.argsort(values if check.below else -values, kind="stable")
    order = order[~np.isnan(values[order])]
    edge = int(check.broken[order].sum())
    half = _SHOWN // 2
    first = max(edge - half, min(edge, _SHOWN))  # not those again that are shown as the worst
    middle = order[first : edge + half] if edge else order[:0]
    last = max(len(order) - _SHOWN, edge + half)
    chosen = (
        ("worst", order[: min(edge, _SHOWN)]),
        ("borderline", middle),
        ("best", order[last:][::-1]),
    )
    return [
        (
            title,
            row(
                indices.tolist(),
                rows,
                thumbnails,
                [score_in_words(check.score, float(values[index])) for index in indices],
            ),
        )
        for title, indices in chosen
        if len(indices)
    ]


def row(indices: Sequence[int], rows: Rows, thumbnails: Thumbnails, labels: Sequence[str]) -> str:
    """One line of cards."""
    cards = (card(index, rows, thumbnails, label) for index, label in zip(indices, labels, strict=True))
    return '<div class="grid small">' + "".join(cards) + "</div>"


def card(index: int, rows: Rows, thumbnails: Thumbnails, label: str) -> str:
    """A clip's picture, its score, its name and whether it was kept."""
    kept = bool(rows.kept[index])
    verdict = "kept" if kept else "dropped: " + "; ".join(rows.reasons[index])
    name = f"{rows.names[index]} at {rows.start_s[index]:.1f} s"
    return (
        f'<div class="card {"kept" if kept else "dropped"}">{thumbnails.picture(rows.clip_ids[index], name)}'
        f"<b>{html.escape(label)}</b><span>{html.escape(name)}</span><em>{html.escape(verdict)}</em></div>"
    )


def _small_jpeg(path: Path) -> str:
    picture = cv2.imread(str(path)) if path.is_file() else None
    if picture is None:
        return ""
    height, width = picture.shape[:2]
    scale = min(1.0, _WIDTH / max(height * 16 / 9, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 72])
    return base64.b64encode(encoded.tobytes()).decode("ascii")
