"""Filtering a dataset folder again: two columns of the clip table change, no row goes, nothing is decoded."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tomli_w

from kinema.curate.clip_table import PART, SCORE_COLUMNS, read_columns, scores_in
from kinema.curate.filters import SCORES, Bounds, Check, FilterConfig, checks, reasons
from kinema.curate.verdicts import BY_HAND, judged, read_verdicts
from kinema.errors import DatasetError
from kinema.files import atomic_path, write_text
from kinema.manifest import CLIP_SCHEMA, require_dataset

_THREADS = 4


@dataclass(frozen=True, kw_only=True)
class FilterSummary:
    """Counts over the whole folder. `thresholds` holds, by reason, the score at which it cuts; a clip with
    several reasons counts under each in `dropped`, also where a person keeps it all the same; `changed` clips
    were kept before and are not, or the other way round."""

    clips: int
    kept: int
    dropped: dict[str, int]
    thresholds: dict[str, float]
    hours: float
    hours_kept: float
    changed: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self) | {"hours": round(self.hours, 4), "hours_kept": round(self.hours_kept, 4)}


def refilter(folder: Path, config: FilterConfig) -> FilterSummary:
    """Set `kept` and `drop_reasons` of every clip anew; parts in which nothing changes are not touched."""
    started = time.monotonic()
    table = read_columns(folder, [*SCORE_COLUMNS, "kept", "drop_reasons", "clip_id"])
    found = checks(scores_in(table), config)
    why, by_hand = judged(reasons(found, table.num_rows), table["clip_id"], read_verdicts(folder))
    kept = np.array([not item for item in why], bool)
    before = table["kept"].to_numpy(zero_copy_only=False).astype(bool)
    _rewrite(table, kept, why)
    hours = np.nan_to_num(table["duration_s"].to_numpy().astype(np.float64)) / 3600
    summary = FilterSummary(
        clips=len(kept),
        kept=int(kept.sum()),
        dropped={check.reason: int(check.broken.sum()) for check in found if check.broken.any()}
        | ({BY_HAND: by_hand} if by_hand else {}),
        thresholds=_thresholds(found),
        hours=float(hours.sum()),
        hours_kept=float(hours[kept].sum()),
        changed=int((kept != before).sum()),
        seconds=round(time.monotonic() - started, 3),
    )
    _write_settings(folder, config, summary)
    return summary


def current_filters(folder: Path) -> dict[str, Any]:
    """The filters that the folder was last filtered with, as they stand in dataset.toml."""
    require_dataset(folder)
    table: dict[str, Any] = read_settings(folder).get("config", {}).get("filters", {})
    return table


def previous_filters(folder: Path) -> dict[str, Any]:
    """The filters before those. Raises `DatasetError` when the folder was filtered only once."""
    require_dataset(folder)
    settings = read_settings(folder)
    if "previous_filters" not in settings:
        raise DatasetError(f"{folder} was filtered only once: there is nothing to go back to")
    table: dict[str, Any] = settings["previous_filters"]
    return table


def _thresholds(found: Sequence[Check]) -> dict[str, float]:
    return {check.reason: check.threshold for check in found if check.threshold is not None}


def _rewrite(table: pa.Table, kept: np.ndarray, why: list[tuple[str, ...]]) -> None:
    """Only the parts whose verdicts differ; each is a file of its own, so threads can share the work."""
    old = table["drop_reasons"].to_pylist()
    differs = np.array([list(new) != (was or []) for new, was in zip(why, old, strict=True)], bool)
    differs |= kept != table["kept"].to_numpy(zero_copy_only=False).astype(bool)
    names = table[PART].to_numpy(zero_copy_only=False)
    edges = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)]
    spans = [(first, last) for first, last in pairwise(edges) if differs[first:last].any()]

    def write(span: tuple[int, int]) -> None:
        _write_part(Path(names[span[0]]), kept[slice(*span)], why[slice(*span)])

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(write, spans))


def _write_part(part: Path, kept: np.ndarray, why: list[tuple[str, ...]]) -> None:
    rows = pq.ParquetFile(part).read(use_threads=False)
    for name, values in (("kept", pa.array(kept)), ("drop_reasons", pa.array(why, pa.list_(pa.string())))):
        rows = rows.set_column(rows.schema.get_field_index(name), CLIP_SCHEMA.field(name), values)
    with atomic_path(part) as temporary:
        pq.write_table(rows, temporary)


def read_settings(folder: Path) -> dict[str, Any]:
    """What stands in dataset.toml."""
    try:
        return tomllib.loads((folder / "dataset.toml").read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise DatasetError(f"{folder / 'dataset.toml'}: not valid TOML: {error}") from None


def _write_settings(folder: Path, config: FilterConfig, summary: FilterSummary) -> None:
    settings, filters = read_settings(folder), filters_table(config)
    before = settings.setdefault("config", {}).get("filters")
    if before == filters:
        return
    if before is not None:
        settings["previous_filters"] = before
    settings["config"]["filters"] = filters
    settings["counts"] = {**settings.get("counts", {}), "clips": summary.clips, "kept": summary.kept}
    write_text(folder / "dataset.toml", tomli_w.dumps(settings))


def filters_table(config: FilterConfig) -> dict[str, Any]:
    """As TOML has it: no key for a bound that is not set."""
    return {
        name: {key: item for key, item in value.items() if item is not None}
        if isinstance(value, dict)
        else list(value)
        if isinstance(value, tuple)
        else value
        for name, value in asdict(config).items()
    }


def filters_of(folder: Path, *, previous: bool = False) -> FilterConfig:
    """The filters that the folder was last filtered with, or those before; unknown keys are passed over."""
    table = previous_filters(folder) if previous else current_filters(folder)
    known = {item.name for item in fields(FilterConfig)}
    values: dict[str, Any] = {
        name: Bounds(**value)
        if isinstance(value, dict)
        else tuple(value)
        if isinstance(value, list)
        else value
        for name, value in table.items()
        if name in known
    }
    empty: dict[str, Any] = {name: Bounds() for name in SCORES} if table else {}
    return FilterConfig(**{**empty, **values})
