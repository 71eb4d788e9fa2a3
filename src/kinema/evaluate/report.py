"""Results of an evaluation as files: JSON for programs, Markdown and histograms for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from kinema.evaluate.plots import histogram
from kinema.files import write_text


def write_result(
    out: Path, result: dict[str, Any], tables: dict[str, dict[str, Float[np.ndarray, " n"]]]
) -> None:
    """`evaluation.json`, `evaluation.md` and a histogram per metric."""
    write_text(
        out / "evaluation.json", json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    )
    for metric in tables["videos"]:
        sets = {name: table[metric] for name, table in tables.items()}
        write_text(out / "plots" / f"{metric}.svg", histogram(metric, sets))
    write_text(out / "evaluation.md", markdown(result, list(tables["videos"])))


def markdown(result: dict[str, Any], plots: list[str]) -> str:
    """The result as a page."""
    percent = round(100 * result["confidence"])
    lines = [
        "# Evaluation",
        "",
        f"{result['videos']} videos, {len(result['skipped'])} could not be judged.",
        "",
        f"| metric | value | {percent} % interval | videos |",
        "| --- | ---: | ---: | ---: |",
        *(_row(name, estimate) for name, estimate in result["metrics"].items()),
        "",
        "Measured with:",
        "",
        *(f"- {key}: {value}" for key, value in result["protocol"].items()),
        "",
        *(f"![{name}](plots/{name}.svg)" for name in plots),
    ]
    if result["skipped"]:
        lines += ["", "Not judged:", "", *(f"- {reason}" for reason in result["skipped"].values())]
    return "\n".join(lines) + "\n"


def _row(name: str, estimate: dict[str, Any]) -> str:
    interval = "-" if estimate["low"] is None else f"{estimate['low']:.4g} … {estimate['high']:.4g}"
    return f"| {name} | {estimate['value']:.4g} | {interval} | {estimate['videos']} |"
