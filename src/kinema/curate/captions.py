"""Captions that come with the footage: files beside a source, a table, or the words of its name."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kinema.errors import DatasetError
from kinema.manifest import Caption

_JSON_KEYS = ("captions", "caption", "text", "prompt", "description")


@dataclass(frozen=True, kw_only=True)
class CaptionConfig:
    """`table`: a CSV file with the columns path and text, and, for a caption of a part of the source,
    start_s and end_s. `sidecars`: use name.txt and name.json beside a source. `filenames`: where there is
    neither, the words of the file name."""

    table: str = ""
    sidecars: bool = True
    filenames: bool = True


@dataclass(frozen=True)
class _Row:
    """A caption of a table, for the seconds from `start_s` to `end_s` of its source."""

    text: str
    start_s: float
    end_s: float


class CaptionSource:
    """Looks up what is known about a source; reads the table once."""

    def __init__(self, config: CaptionConfig) -> None:
        self._config = config
        self._table = _read_table(Path(config.table)) if config.table else {}

    def captions(self, source: Path, middle_s: float = 0.0) -> tuple[Caption, ...]:
        """All captions of the clip of a source that has its middle at `middle_s`, each text once; the file
        name only when there is nothing better."""
        given = [
            Caption(text=row.text, kind="table")
            for row in self._from_table(source)
            if row.start_s <= middle_s < row.end_s
        ]
        if self._config.sidecars:
            given += [Caption(text=text, kind="sidecar") for text in _from_sidecars(source)]
        if not given and self._config.filenames and (words := filename_words(source)):
            given = [Caption(text=words, kind="filename")]
        unique: dict[str, Caption] = {}
        for caption in given:
            unique.setdefault(caption.text, caption)
        return tuple(unique.values())

    def check(self, sources: Iterable[Path]) -> None:
        """Read every caption once, so that a broken sidecar stops a run before it has begun."""
        for source in sources:
            self.captions(source)

    def _from_table(self, source: Path) -> list[_Row]:
        return self._table.get(str(source)) or self._table.get(source.name) or []


def filename_words(source: Path) -> str:
    """`beach_sunset-1080p_02.mp4` is "beach sunset": numbers and words with digits say nothing."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", source.stem)
    words = re.split(r"[\W_]+", spaced)
    return " ".join(word.lower() for word in words if word and not any(char.isdigit() for char in word))


def _from_sidecars(source: Path) -> Iterator[str]:
    for stem in (source.with_suffix(""), source):
        text, table = (stem.with_name(f"{stem.name}{suffix}") for suffix in (".txt", ".json"))
        if text.is_file() and text != source:
            yield from _tidy(re.split(r"\n\s*\n", _read(text)))
        if table.is_file() and table != source:
            yield from _tidy(_json_texts(table))


def _json_texts(path: Path) -> list[str]:
    try:
        content = json.loads(_read(path))
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path}: not valid JSON (line {error.lineno}); mend or remove it") from error
    return list(_texts(content))


def _texts(content: object) -> Iterator[str]:
    match content:
        case str():
            yield content
        case list():
            for item in content:
                yield from _texts(item)
        case dict():
            for key in _JSON_KEYS:
                yield from _texts(content.get(key))


def _read_table(path: Path) -> dict[str, list[_Row]]:
    """Rows by absolute path and by file name; paths in the table are relative to its folder."""
    if not path.is_file():
        raise DatasetError(f"{path}: no such captions table (captions.table)")
    found: dict[str, list[_Row]] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        if not {"path", "text"} <= set(rows.fieldnames or ()):
            raise DatasetError(f"{path}: needs the columns path and text, has {rows.fieldnames}")
        for row in rows:
            start_s = _seconds(row.get("start_s"), 0.0, f"{path}, line {rows.line_num}")
            end_s = _seconds(row.get("end_s"), math.inf, f"{path}, line {rows.line_num}")
            texts = [_Row(text, start_s, end_s) for text in _tidy([row["text"] or ""])]
            key = row["path"] or ""
            absolute = str((path.parent / key).absolute())
            for name in {absolute, key}:
                found.setdefault(name, []).extend(texts)
    return found


def _seconds(cell: str | None, default: float, place: str) -> float:
    try:
        return float(cell) if cell and cell.strip() else default
    except ValueError:
        raise DatasetError(f"{place}: start_s and end_s are seconds, got {cell!r}") from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error


def _tidy(texts: Iterable[str]) -> Iterator[str]:
    return (tidy for text in texts if (tidy := " ".join(text.split())))
