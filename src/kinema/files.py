"""Atomic files: written to a temporary name beside the target, then renamed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kinema.errors import OutputError

_TEMPORARY = re.compile(r"\..*-[a-z0-9_]{8}(\.\w+)?")
"""What `atomic_path` calls its files before they are renamed."""


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path with the target's suffix; rename it to `target` when the block succeeds.

    Raises `OutputError` when the folder cannot be written or the disk is full; the target is then untouched.
    """
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.stem}-", suffix=target.suffix, dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(target)
    except OSError as error:
        raise OutputError(
            f"cannot write {target}: {error.strerror or error}; free some space or choose another folder"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of `folder`. Raises `OutputError` when another run is writing there."""
    with (folder / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"{folder} is being written by another run; wait for it or stop it") from error
        yield


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """As `locked`, and remove the temporary files that a killed run left in the folder."""
    with locked(folder):
        for leftover in folder.rglob(".*"):
            if _TEMPORARY.fullmatch(leftover.name) and leftover.is_file():
                leftover.unlink()
        yield


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_line(target: Path, line: str) -> None:
    """Add a line to a file and sync it to disk; writers take turns. A last line that a killed writer left
    unfinished is ended first, so that it costs only itself."""
    with target.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = file.seek(0, os.SEEK_END)
        torn = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
        file.write((b"\n" if torn else b"") + line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_rows(source: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; a line that does not parse was not finished, and is left out."""
    rows = []
    for line in source.read_text(encoding="utf-8").splitlines() if source.is_file() else []:
        with suppress(ValueError):
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict)]


def writable_folder(folder: Path) -> Path:
    """Create `folder` and prove that it can be written, before any work is spent on it."""
    with atomic_path(folder / ".writable") as temporary:
        temporary.write_bytes(b"")
    (folder / ".writable").unlink()
    return folder


def file_sha256(path: Path) -> str:
    """Of the file's bytes, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
