"""Prompts from the command line and from files, each with the references and settings that it names."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from kinema.errors import ConfigError
from kinema.generate.mask_strategy import references_of, split_paths, split_suffix
from kinema.generate.pipeline import GenerateConfig
from kinema.generate.tasks import FromText
from kinema.motion import CameraMove

_TEXT = "prompt"


def _move(cell: str) -> str:
    if cell not in get_args(CameraMove):
        raise ValueError(cell)
    return cell


_SETTINGS: Mapping[str, tuple[Callable[[str], object], str]] = {
    "seed": (int, "a whole number, such as 7"),
    "frames": (int, "a whole number, such as 16"),
    "height": (int, "pixels, such as 240"),
    "width": (int, "pixels, such as 426"),
    "steps": (int, "a whole number, such as 50"),
    "segments": (int, "a whole number, such as 2"),
    "overlap": (int, "a whole number, such as 4"),
    "fps": (float, "a number, such as 24"),
    "guidance_scale": (float, "a number, such as 7.0"),
    "camera": (_move, f"a camera move; known are {', '.join(get_args(CameraMove))}"),
}
_REFERENCES = ("image", "references", "mask_strategy")
COLUMNS = (_TEXT, *_SETTINGS, *_REFERENCES)
"""What a CSV file of prompts may have; an empty cell is the command's own setting."""


@dataclass(frozen=True, kw_only=True)
class PromptLine:
    """A prompt with its settings, and where it stands."""

    where: str
    config: GenerateConfig


def with_references(
    prompt: str, references: str = "", mask_strategy: str | None = None
) -> tuple[str, FromText | None]:
    """The text of a prompt and what is laid on its frames, from a JSON suffix or from the arguments.

    References without a strategy: the first one is the first frame.
    """
    text, suffix = split_suffix(prompt)
    if (suffix.reference_path and references) or (suffix.mask_strategy and mask_strategy is not None):
        raise ConfigError("the references stand both in the prompt's JSON and beside it; leave one out")
    paths = split_paths(references or suffix.reference_path)
    strategy = suffix.mask_strategy or mask_strategy
    if strategy is None and not paths:
        return text, None
    if not paths:
        raise ConfigError("a mask strategy needs files; name them with --reference a.png;b.mp4")
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"reference {path} does not exist; name a picture or a video")
    return text, FromText(references=references_of("0" if strategy is None else strategy, paths))


def read_prompts(path: Path, settings: Mapping[str, Any]) -> list[PromptLine]:
    """A prompt a line from .txt, a row from .csv; what a row leaves out is as in `settings`.

    Raises `ConfigError` naming file, line and column of the first cell that does not fit.
    """
    readers = {".txt": _text_rows, ".csv": _table_rows}
    if path.suffix.lower() not in readers:
        raise ConfigError(f"{path}: prompts are read from .txt (one a line) or .csv (with a column prompt)")
    rows = readers[path.suffix.lower()](path)
    lines = [_prompt_line(f"{path}, line {number}", row, settings) for number, row in rows]
    if not lines:
        raise ConfigError(f"{path} holds no prompt; write one a line")
    return lines


def _text_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in enumerate(_content(path).splitlines(), start=1):
        if line.strip():
            yield number, {_TEXT: line.strip()}


def _table_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(_content(path).splitlines(keepends=True))
    columns = reader.fieldnames or []
    unknown = [column for column in columns if column not in COLUMNS]
    if unknown or _TEXT not in columns:
        fault = f"unknown column {unknown[0]!r}" if unknown else f"no column {_TEXT!r}"
        raise ConfigError(f"{path}, line 1: {fault}; known are {', '.join(COLUMNS)}")
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        if None in row or None in row.values():
            raise ConfigError(
                f"{where}: {len(columns)} columns are expected; quote a text that has commas in it"
            )
        yield reader.line_num, {name: value.strip() for name, value in row.items()}


def _prompt_line(where: str, row: Mapping[str, str], settings: Mapping[str, Any]) -> PromptLine:
    values = dict(settings)
    for name, cell in row.items():
        if name in _SETTINGS and cell:
            kind, mend = _SETTINGS[name]
            try:
                values[name] = kind(cell)
            except ValueError:
                raise ConfigError(f"{where}, column {name}: {cell!r} is not {mend}") from None
    if not row[_TEXT]:
        raise ConfigError(f"{where}, column {_TEXT}: the cell is empty; say what to show")
    column = _TEXT
    try:
        column = next((name for name in _REFERENCES if row.get(name)), _TEXT)
        prompt, task = with_references(
            row[_TEXT], row.get("references", ""), row.get("mask_strategy") or None
        )
        image = Path(row["image"]) if row.get("image") else None
        column = _column_at_fault(row, values)
        config = GenerateConfig(**values | {"prompt": prompt, "task": task, "image": image})
    except ConfigError as error:
        raise ConfigError(f"{where}, column {column}: {error}") from None
    return PromptLine(where=where, config=config)


def _column_at_fault(row: Mapping[str, str], values: Mapping[str, Any]) -> str:
    """The column that a config would refuse: a number that is not above 0, else the image."""
    for name in _SETTINGS:
        value = values.get(name)
        if name != "seed" and row.get(name) and isinstance(value, int | float) and value <= 0:
            return name
    return "image" if row.get("image") else _TEXT


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file in UTF-8; save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; name a .txt or .csv file of prompts") from None
