"""Results for people: Markdown and histograms beside the JSON, and rankings as tables."""

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
        sets = {name: table[metric] for name, table in tables.items() if metric in table}
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
        *(f"{note}\n" for note in result["notes"]),
        "Measured with:",
        "",
        *(f"- {key}: {value}" for key, value in result["protocol"].items()),
        "",
        *(f"![{name}](plots/{name}.svg)" for name in plots),
    ]
    if result["skipped"]:
        lines += ["", "Not judged:", "", *(f"- {reason}" for reason in result["skipped"].values())]
    return "\n".join(lines) + "\n"


def ranking_text(result: dict[str, Any]) -> str:
    """What `fit_votes` found, as Markdown tables by axis."""
    lines = [f"{result['votes']} votes from {result['votes_file']}"]
    if result["excluded_voters"]:
        lines.append(f"left out for failed attention checks: {', '.join(result['excluded_voters'])}")
    for axis, found in result["axes"].items():
        lines += [
            "",
            f"## {axis}: {found['votes']} votes, {found['tie_rate']:.0%} ties, "
            f"{found['both_bad_rate']:.0%} of all both bad",
            "",
            "| rank | model | rating | exact interval | Elo | wins | losses | ties |",
            "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
            *(_rank_row(row) for row in found["models"]),
            *(f"\nWarning: {warning}" for warning in found["warnings"]),
        ]
    return "\n".join(lines) + "\n"


def comparison_text(metrics: dict[str, dict[str, Any]]) -> str:
    """What `compare_results` found: a row a metric, a column a result."""
    names = list(next(iter(metrics.values()), {}))
    lines = [f"| metric | {' | '.join(names)} |", "| --- |" + " ---: |" * len(names)]
    for metric, found in metrics.items():
        cells = ("-" if found[name] is None else _valued(found[name]) for name in names)
        lines.append(f"| {metric} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _valued(estimate: dict[str, Any]) -> str:
    if estimate["low"] is None:
        return f"{estimate['value']:.4g}"
    return f"{estimate['value']:.4g} ({estimate['low']:.4g} … {estimate['high']:.4g})"


def plan_text(plan: dict[str, Any]) -> str:
    """What `plan_votes` found, a line a pair."""
    lines = []
    for axis, pairs in plan["axes"].items():
        lines += [
            "",
            f"## {axis}",
            "",
            "| first | second | gap | more votes |",
            "| --- | --- | ---: | ---: |",
        ]
        lines += [
            f"| {pair['first']} | {pair['second']} | {pair['gap']:+.0f} ± {pair['standard_error']:.0f} "
            f"| {_more(pair)} |"
            for pair in pairs
        ]
    return "\n".join(lines[1:])


def _more(pair: dict[str, Any]) -> str:
    if pair["separated"]:
        return "separated"
    return "over a million" if pair["more_votes"] is None else str(pair["more_votes"])


def _rank_row(row: dict[str, Any]) -> str:
    low, high = ("open" if end is None else f"{end:.0f}" for end in row["exact_interval"])
    return (
        f"| {row['rank']} | {row['model']} | {row['davidson']:.0f} | {low} … {high} | {row['elo']:.1f} "
        f"| {row['wins']} | {row['losses']} | {row['ties']} |"
    )


def _row(name: str, estimate: dict[str, Any]) -> str:
    interval = "-" if estimate["low"] is None else f"{estimate['low']:.4g} … {estimate['high']:.4g}"
    return f"| {name} | {estimate['value']:.4g} | {interval} | {estimate['videos']} |"
