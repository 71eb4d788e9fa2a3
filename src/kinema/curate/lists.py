"""Lists of sources: a line each in text, or a column of a table."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from kinema.errors import DatasetError
from kinema.location import is_url, located, open_bytes

LIST_SUFFIXES = frozenset({".csv", ".parquet", ".txt"})
COLUMNS = ("path", "file", "video", "url")
_NOT_UTF8 = "is not text in UTF-8; a list of sources is .txt (a path each line), .csv or .parquet"


def is_list(item: Path) -> bool:
    """Whether a named file is a list of sources, by its suffix."""
    return item.suffix.lower() in LIST_SUFFIXES


def read_list(item: Path) -> list[Path]:
    """The sources that a list names, in its order; relative ones are relative to the list's folder.

    They are not looked for: a missing one becomes a row with a reason. Raises `DatasetError` for a list that
    cannot be read or names nothing.
    """
    try:
        names = list(_names(item))
    except UnicodeDecodeError as error:
        raise DatasetError(f"{item}: {_NOT_UTF8}") from error
    except (pa.ArrowInvalid, csv.Error) as error:
        raise DatasetError(f"{item}: cannot be read as a list of sources: {error}") from error
    if not names:
        raise DatasetError(f"{item}: the list names no source")
    return [located(name) if is_url(name) else item.parent / name for name in names]


def holds_captions(item: Path) -> bool:
    """Whether a list is a CSV table with texts beside its paths, as `captions.table` reads."""
    if item.suffix.lower() != ".csv" or is_url(item):
        return False
    with item.open(encoding="utf-8-sig", newline="") as file:
        return {"path", "text"} <= set(next(csv.reader(file), []))


def _names(item: Path) -> Iterator[str]:
    match item.suffix.lower():
        case ".parquet":
            with open_bytes(item) as file:
                names = pq.ParquetFile(file).schema_arrow.names
                column = _column(item, names)
                file.seek(0)
                cells = pq.read_table(file, columns=[column])[column].to_pylist()
            yield from (str(cell).strip() for cell in cells if cell)
        case ".csv":
            rows = csv.DictReader(_lines(item))
            column = _column(item, list(rows.fieldnames or ()))
            yield from (row[column].strip() for row in rows if (row[column] or "").strip())
        case _:
            lines = (line.strip() for line in _lines(item))
            yield from (line for line in lines if line and not line.startswith("#"))


def _lines(item: Path) -> list[str]:
    with open_bytes(item) as file:
        return file.read().decode("utf-8-sig").splitlines(keepends=True)


def _column(item: Path, names: list[str]) -> str:
    for column in COLUMNS:
        if column in names:
            return column
    raise DatasetError(f"{item}: needs a column {', '.join(COLUMNS[:-1])} or {COLUMNS[-1]}, has {names}")
