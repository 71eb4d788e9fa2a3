"""Tensors packed in a few large files: each is found by its key and read by its offset, without the others.

A part is `part-NAME.safetensors` and, written after it, `part-NAME.parquet` with a row a tensor. A part
without its table, or whose file is shorter than the table says, is not there. Keys are 128-bit hashes of all
that decides a tensor, so that nothing stale is ever found.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinema.errors import DatasetError
from kinema.files import atomic_path

_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_LOCK = ".held"
_SCHEMA = pa.schema(
    [
        ("high", pa.uint64()),
        ("low", pa.uint64()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("crc", pa.uint32()),
        ("form", pa.dictionary(pa.int32(), pa.string())),
    ]
)


def entry_key(*parts: object) -> str:
    """32 hexadecimal digits for what decides a tensor."""
    text = "\x1f".join(str(part) for part in parts)
    return blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Place:
    """Where a tensor lies."""

    path: Path
    offset: int
    size: int
    crc: int
    form: str


@dataclass
class ReadCount:
    """Tensors and bytes read in this process; proves what training reads."""

    tensors: int = 0
    bytes: int = 0


read_count = ReadCount()


class Packs:
    """The tensors of a folder of parts. Threads may read at the same time; `refresh` sees newer parts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged: dict[str, str] = {}
        self._seen: set[Path] = set()
        self._tables: list[_Table] = []
        self._handles: dict[Path, int] = {}
        self._lock = Lock()
        self.refresh()

    def __len__(self) -> int:
        return sum(len(table.keys) for table in self._tables)

    def __contains__(self, key: str) -> bool:
        return self.find(key) is not None

    def refresh(self) -> None:
        """Look for parts that came since."""
        for path in sorted(self.folder.glob("part-*.parquet")):
            if path not in self._seen:
                self._seen.add(path)
                self._open_table(path)

    def find(self, key: str) -> Place | None:
        """Where the tensor of a key lies; None when it is in no whole part."""
        high, low = int(key[:16], 16), int(key[16:], 16)
        for table in self._tables:
            if (place := table.find(high, low)) is not None:
                return place
        return None

    def read(self, key: str) -> Tensor:
        """The tensor of a key that is there. Raises `DatasetError` for one whose bytes were altered."""
        place = self.find(key)
        if place is None:
            raise KeyError(key)
        content = os.pread(self._handle(place.path), place.size, place.offset)
        if len(content) != place.size or zlib.crc32(content) != place.crc:
            raise DatasetError(
                f"{place.path}: the cached tensor {key} is damaged; delete the file, it will be made again"
            )
        with self._lock:
            read_count.tensors += 1
            read_count.bytes += len(content)
        dtype, _, shape = place.form.partition(" ")
        flat = torch.frombuffer(bytearray(content), dtype=_DTYPES[dtype])
        return flat.reshape([int(length) for length in shape.split()])

    def close(self) -> None:
        """Let go of the files."""
        with self._lock:
            for handle in self._handles.values():
                os.close(handle)
            self._handles.clear()

    def _handle(self, path: Path) -> int:
        with self._lock:
            if path not in self._handles:
                self._handles[path] = os.open(path, os.O_RDONLY)
            return self._handles[path]

    def _open_table(self, path: Path) -> None:
        data = path.with_suffix(".safetensors")
        try:
            table = _Table.of(data, pq.read_table(path))
            found = data.stat().st_size if data.is_file() else 0
            if found < table.end:
                raise DatasetError(f"holds {found} of {table.end} bytes")
        except (OSError, pa.ArrowException, KeyError, DatasetError) as error:
            self.damaged[data.name] = " ".join(str(error).split())
            return
        self._tables.append(table)


@dataclass(frozen=True)
class _Table:
    """One part's rows, sorted by key: twenty-odd bytes a tensor, whatever their number."""

    path: Path
    keys: NDArray[np.uint64]
    low: NDArray[np.uint64]
    columns: Mapping[str, NDArray[Any]]
    forms: list[str]

    @classmethod
    def of(cls, path: Path, table: pa.Table) -> _Table:
        columns = {name: table[name].to_numpy() for name in ("high", "low", "offset", "size", "crc")}
        form = table["form"].combine_chunks()
        form = form.chunk(0) if isinstance(form, pa.ChunkedArray) else form
        columns["form"] = form.indices.to_numpy()
        order = np.argsort(columns["high"], kind="stable")
        columns = {name: values[order] for name, values in columns.items()}
        high, low = columns.pop("high"), columns.pop("low")
        return cls(path, high, low, columns, form.dictionary.to_pylist())

    @property
    def end(self) -> int:
        """The length that the file must have."""
        offset, size = self.columns["offset"], self.columns["size"]
        return int((offset + size).max()) if len(offset) else 0

    def find(self, high: int, low: int) -> Place | None:
        at = int(np.searchsorted(self.keys, np.uint64(high)))
        while at < len(self.keys) and int(self.keys[at]) == high:
            if int(self.low[at]) == low:
                return self._place(at)
            at += 1
        return None

    def _place(self, at: int) -> Place:
        offset, size, crc, form = (int(self.columns[name][at]) for name in ("offset", "size", "crc", "form"))
        return Place(self.path, offset, size, crc, self.forms[form])


@dataclass
class PackWriter:
    """Gathers tensors and writes a part whenever they pass `part_mb`, and at `flush`.

    Nothing is written beyond `quota_bytes` for all of `counted` (folders); `full` says so then.
    """

    folder: Path
    part_mb: float = 64.0
    quota_bytes: float = float("inf")
    counted: tuple[Path, ...] = ()
    full: bool = False
    written: int = 0
    _waiting: dict[str, Tensor] = field(default_factory=dict)
    _bytes: int = 0

    def add(self, key: str, tensor: Tensor) -> None:
        """Keep a tensor; one that is there already is not kept twice."""
        if self.full or key in self._waiting:
            return
        plain = tensor.detach().cpu().contiguous()
        self._waiting[key] = plain
        self._bytes += plain.nbytes
        if self._bytes >= self.part_mb * 2**20:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if not self._waiting:
            return
        if folder_bytes(*(self.counted or (self.folder,))) + self._bytes > self.quota_bytes:
            self.full = True
        else:
            write_part(self.folder, secrets.token_hex(6), self._waiting)
            self.written += len(self._waiting)
        self._waiting, self._bytes = {}, 0


def write_part(folder: Path, name: str, tensors: Mapping[str, Tensor]) -> None:
    """The tensors in one file, then the table that makes them known; both atomically."""
    data = folder / f"part-{name}.safetensors"
    with atomic_path(data) as temporary:
        safetensors.torch.save_file(dict(tensors), temporary)
        rows = list(_rows(temporary))
    columns = {key: [row[key] for row in rows] for key in _SCHEMA.names}
    columns["form"] = pa.array(columns["form"]).dictionary_encode()
    with atomic_path(data.with_suffix(".parquet")) as temporary:
        pq.write_table(pa.table(columns, schema=_SCHEMA), temporary)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """What the header of a safetensors file says of each tensor, from the start of the file."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        for key, facts in header.items():
            if key == "__metadata__":
                continue
            begin, end = facts["data_offsets"]
            file.seek(8 + length + begin)
            yield {
                "high": int(key[:16], 16),
                "low": int(key[16:], 16),
                "offset": 8 + length + begin,
                "size": end - begin,
                "crc": zlib.crc32(file.read(end - begin)),
                "form": " ".join([facts["dtype"], *map(str, facts["shape"])]),
            }


@contextmanager
def holding(*folders: Path) -> Iterator[None]:
    """While a folder is held nobody removes it. The first to hold it clears what a killed writer left."""
    with ExitStack() as stack:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((folder / _LOCK).open("a"))
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for leftover in folder.glob(".part-*"):
                    leftover.unlink()
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def remove_unheld(folder: Path) -> bool:
    """Remove a folder of parts, unless it is held; whether it was."""
    with (folder / _LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        shutil.rmtree(folder)
        return True


def folder_bytes(*folders: Path) -> int:
    """What the files of folders take."""
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


def lossless(tensor: Tensor) -> Tensor:
    """In half the bytes where that loses nothing: what an encoder made in bf16."""
    half = tensor.to(torch.bfloat16)
    return half if torch.equal(half.to(tensor.dtype), tensor) else tensor
