"""Plots of results as SVG text: histograms of values per video, one set beside another."""

from __future__ import annotations

import html

import numpy as np
from jaxtyping import Float

WIDTH, HEIGHT, MARGIN = 480, 240, 40
COLOURS = ("#2563a8", "#c2571a")


def histogram(title: str, sets: dict[str, Float[np.ndarray, " n"]], bins: int = 24) -> str:
    """Share of videos by value, for one set or two; the dashed line is a set's mean. Standalone SVG."""
    values = np.concatenate(list(sets.values()))
    low, high = float(values.min()), float(values.max())
    high = high if high > low else low + 1.0
    edges = np.linspace(low, high, bins + 1)
    shares = {name: np.histogram(own, edges)[0] / len(own) for name, own in sets.items()}
    top = max(float(share.max()) for share in shares.values())
    layers = [
        _layer(shares[name] / top, (float(own.mean()) - low) / (high - low), COLOURS[place % len(COLOURS)])
        for place, (name, own) in enumerate(sets.items())
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'font-family="sans-serif" font-size="12">',
            f"<title>{html.escape(title)}</title>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
            f'<text x="{MARGIN}" y="18" font-weight="bold">{html.escape(title)}</text>',
            *_legend(list(sets)),
            *layers,
            *_axis(low, high),
            "</svg>\n",
        ]
    )


def _layer(shares: Float[np.ndarray, " bins"], mean: float, colour: str) -> str:
    span, tall = WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN
    step = span / len(shares)
    bars = "".join(
        f'<rect x="{MARGIN + n * step:.1f}" y="{HEIGHT - MARGIN - share * tall:.1f}" width="{step:.1f}" '
        f'height="{share * tall:.1f}" fill="{colour}" fill-opacity="0.5"/>'
        for n, share in enumerate(shares)
        if share > 0
    )
    x = MARGIN + mean * span
    line = (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{MARGIN}" y2="{HEIGHT - MARGIN}" stroke="{colour}" '
        f'stroke-width="2" stroke-dasharray="5 3"/>'
    )
    return bars + line


def _legend(names: list[str]) -> list[str]:
    return [
        f'<text x="{WIDTH - MARGIN}" y="{18 + 14 * place}" text-anchor="end" '
        f'fill="{COLOURS[place % len(COLOURS)]}">{html.escape(name)}</text>'
        for place, name in enumerate(names)
    ]


def _axis(low: float, high: float) -> list[str]:
    base = HEIGHT - MARGIN
    line = f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{base}" y2="{base}" stroke="black"/>'
    marks = [
        f'<text x="{MARGIN + part * (WIDTH - 2 * MARGIN):.1f}" y="{base + 18}" text-anchor="middle">'
        f"{low + part * (high - low):.3g}</text>"
        for part in (0.0, 0.5, 1.0)
    ]
    return [line, *marks]
