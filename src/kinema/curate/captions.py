"""Captions that come with the footage: files beside a source, a table, or the words of its name."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kinema.errors import DatasetError
from kinema.location import filename_words
from kinema.manifest import Caption

_JSON_KEYS = ("captions", "caption", "text", "prompt", "description")
_FACTS = ("start_s", "end_s", "kind", "model")


@dataclass(frozen=True, kw_only=True)
class CaptionConfig:
    """`table`: a CSV file with the columns path and text, and, where wanted, start_s and end_s (a caption of
    a part of the source), kind and model (who made it). `sidecars`: use name.txt, name.json and name.csv
    beside a source. `filenames`: where there is neither, the words of the file name."""

    table: str = ""
    sidecars: bool = True
    filenames: bool = True


@dataclass(frozen=True)
class _Row:
    """A caption for the seconds from `start_s` to `end_s` of its source."""

    text: str
    start_s: float = 0.0
    end_s: float = math.inf
    kind: str = ""
    model: str = ""

    def caption(self, kind: str) -> Caption:
        """`kind` says where it was found; who made it, if that is known, says more."""
        return Caption(text=self.text, kind=self.kind or kind, model=self.model)


class CaptionSource:
    """Looks up what is known about a source; reads the table once."""

    def __init__(self, config: CaptionConfig) -> None:
        self._config = config
        self._table = _read_table(Path(config.table)) if config.table else {}

    def captions(self, source: Path, middle_s: float = 0.0) -> tuple[Caption, ...]:
        """All captions of the clip of a source that has its middle at `middle_s`, each text once; the file
        name only when there is nothing better."""
        found = [("table", row) for row in self._from_table(source)]
        if self._config.sidecars:
            found += [("sidecar", row) for row in _from_sidecars(source)]
        given = [row.caption(place) for place, row in found if row.start_s <= middle_s < row.end_s]
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


def _from_sidecars(source: Path) -> Iterator[_Row]:
    for stem in (source.with_suffix(""), source):
        text, json_, table = (stem.with_name(f"{stem.name}{suffix}") for suffix in (".txt", ".json", ".csv"))
        if text.is_file() and text != source:
            yield from (_Row(tidy) for tidy in _tidy(re.split(r"\n\s*\n", _read(text))))
        if json_.is_file() and json_ != source:
            yield from _json_rows(json_)
        if table.is_file() and table != source:
            yield from (row for _, row in _named_rows(table, {"text"}, others_pass=True))


def _json_rows(path: Path) -> Iterator[_Row]:
    try:
        content = json.loads(_read(path))
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path}: not valid JSON (line {error.lineno}); mend or remove it") from error
    return _rows(content, {}, str(path))


def _rows(content: object, around: Mapping[str, object], place: str) -> Iterator[_Row]:
    """Texts at any depth; times, kind and model hold for all that is inside the object that has them."""
    match content:
        case str():
            cells = {name: str(value) for name, value in around.items() if value is not None}
            yield from (_row(tidy, cells, place) for tidy in _tidy([content]))
        case list():
            for item in content:
                yield from _rows(item, around, place)
        case dict():
            inside = {**around, **{name: content[name] for name in _FACTS if name in content}}
            for key in _JSON_KEYS:
                yield from _rows(content.get(key), inside, place)


def _row(text: str, cells: Mapping[str, str | None], place: str) -> _Row:
    start_s, end_s = _seconds(cells.get("start_s"), 0.0, place), _seconds(cells.get("end_s"), math.inf, place)
    return _Row(text, start_s, end_s, cells.get("kind") or "", cells.get("model") or "")


def _named_rows(path: Path, needs: set[str], *, others_pass: bool = False) -> Iterator[tuple[str, _Row]]:
    """(path, caption) of each row. A file beside a source may be about something else than captions."""
    with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
        rows = csv.DictReader(file)
        if not needs <= set(rows.fieldnames or ()):
            if others_pass:
                return
            raise DatasetError(f"{path}: needs the columns path and text, has {rows.fieldnames}")
        for row in rows:
            for text in _tidy([row["text"] or ""]):
                yield row.get("path") or "", _row(text, row, f"{path}, line {rows.line_num}")


def _read_table(path: Path) -> dict[str, list[_Row]]:
    """Rows by absolute path and by file name; paths in the table are relative to its folder."""
    if not path.is_file():
        raise DatasetError(f"{path}: no such captions table (captions.table)")
    found: dict[str, list[_Row]] = {}
    for key, row in _named_rows(path, {"path", "text"}):
        for name in {str((path.parent / key).absolute()), key}:
            found.setdefault(name, []).append(row)
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
