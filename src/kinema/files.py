"""Atomic files: written to a temporary name beside the target, then renamed."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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


def writable_folder(folder: Path) -> Path:
    """Create `folder` and prove that it can be written, before any work is spent on it."""
    with atomic_path(folder / ".writable") as temporary:
        temporary.write_bytes(b"")
    (folder / ".writable").unlink()
    return folder
