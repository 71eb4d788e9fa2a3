"""The clip table by columns, for what looks at all clips at once: a hundred thousand rows in a second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from jaxtyping import Float

from kinema.curate.filters import SCORES, Scores, without_stills
from kinema.manifest import CLIP_SCHEMA, require_dataset

PART = "__filename"
"""The column with the file that a row comes from."""

SCORE_COLUMNS = (
    *(name for name in SCORES if name != "side"),
    *("width", "height", "frames", "camera_motion", "near_duplicate_of"),
)
"""What filters look at."""


def read_columns(folder: Path, names: Sequence[str]) -> pa.Table:
    """These columns and `PART`, in order of parts; a column that an old part does not have is null there.

    Raises `DatasetError` when the folder is no dataset folder.
    """
    require_dataset(folder)
    parts = sorted((folder / "clips").glob("part-*.parquet"))
    schema = pa.schema([CLIP_SCHEMA.field(name) for name in names])
    if not parts:
        return schema.append(pa.field(PART, pa.string())).empty_table()
    files = pads.dataset([str(part) for part in parts], schema=schema, format="parquet")
    table: pa.Table = files.to_table(columns=[*names, PART])
    return table


def floats(table: pa.Table, name: str) -> Float[np.ndarray, " n"]:
    """A column of numbers; nan is not measured. `side` is the shorter one."""
    if name == "side":
        return np.asarray(np.minimum(floats(table, "width"), floats(table, "height")))
    column = table[name].cast(pa.float64())
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)


def flags(table: pa.Table, name: str) -> np.ndarray:
    """A column of yes and no."""
    return np.asarray(table[name].to_numpy(zero_copy_only=False), bool)


def scores_in(table: pa.Table) -> Scores:
    """What filters look at, from a table with `SCORE_COLUMNS`."""
    return Scores(
        without_stills({name: floats(table, name) for name in SCORES}, floats(table, "frames")),
        table["camera_motion"].to_pylist(),
        np.asarray(pc.is_valid(table["near_duplicate_of"]).to_numpy(zero_copy_only=False), bool),
    )
