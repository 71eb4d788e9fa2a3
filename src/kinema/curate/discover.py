"""What the user names (files, folders, globs, lists, addresses in a store) to the list of sources."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import Any, cast

from kinema.curate.lists import is_list, read_list
from kinema.errors import DatasetError
from kinema.location import fetching, is_url, located

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"}
    | {".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"}
)
IMAGE_SUFFIXES = frozenset(
    (".avif", ".bmp", ".heic", ".heif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
)


def discover(inputs: Sequence[Path | str], out: Path) -> list[Path]:
    """Absolute paths of all sources, sorted, each once; nothing inside the dataset folder `out`.

    A folder, or an address that ends in a slash, gives its files with known suffixes, hidden ones left out;
    a list gives what it names; another file that is named is tried whatever its suffix. Raises `DatasetError`
    for an input that is missing or gives no file.
    """
    found: dict[Path, None] = {}
    for item in inputs:
        if not str(item).strip():
            raise DatasetError("an input is an empty name (a variable that is not set?); . is this folder")
        for path in _files(located(item)):
            found[path.absolute()] = None
    outside = [path for path in found if is_url(path) or not path.is_relative_to(out.absolute())]
    if not outside:
        raise DatasetError(_nothing(inputs))
    return sorted(outside, key=str)


def _files(item: Path) -> Iterable[Path]:
    if is_url(item) and (has_magic(str(item)) or not item.is_file()):
        return _checked(item, _objects(item))
    if item.is_dir():
        return _checked(item, _walk(item))
    if item.exists():
        return read_list(item) if is_list(item) else [item]
    if has_magic(str(item)):
        matches = (Path(match) for match in sorted(glob(str(item), recursive=True)))  # noqa: PTH207 (absolute and relative patterns alike)
        return _checked(item, (path for match in matches for path in _matched(match)))
    raise DatasetError(f"{item}: no such file or folder")


def _matched(path: Path) -> Iterable[Path]:
    return _walk(path) if path.is_dir() else [path] if _known(path) else []


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if _known(path) and not _hidden(path.relative_to(folder)) and path.is_file():
            yield path


def _objects(item: Path) -> Iterator[Path]:
    """One listing, not a request for each object."""
    remote = cast(Any, item)
    with fetching(str(item)):
        names = remote.fs.glob(remote.path) if has_magic(str(item)) else remote.fs.find(remote.path)
    prefix = remote.path.rstrip("/") + "/"
    for name in names:
        if _known(path := located(remote.fs.unstrip_protocol(name))):
            inside = Path(name.removeprefix(prefix)) if name.startswith(prefix) else Path(path.name)
            if not _hidden(inside):
                yield path


def _known(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def _checked(item: Path, paths: Iterable[Path]) -> list[Path]:
    found = list(paths)
    if not found:
        raise DatasetError(_nothing([item]))
    return found


def _nothing(inputs: Sequence[Path | str]) -> str:
    names = ", ".join(str(item) for item in inputs) or "(no input named)"
    return f"{names}: no video or image files; name files, folders or globs such as footage/*.mp4"
