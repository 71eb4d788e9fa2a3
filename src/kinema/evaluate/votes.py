"""Votes: one judgement of two videos, kept in an append-only store or read from a table made elsewhere."""

from __future__ import annotations

import csv
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from kinema.errors import KinemaError, OutputError

OUTCOMES = ("a", "b", "tie", "both_bad")
AXES = ("quality", "prompt_following")
ANY_AXIS = "overall"


class VoteError(KinemaError):
    """Votes that cannot be read or ranked; names the file, line and column."""


@dataclass(frozen=True, kw_only=True)
class Vote:
    """One answer on one axis. `outcome` speaks of `model_a` and `model_b`, not of left and right.

    `shown_first` ("a" or "b") is the model whose video was shown on the left or first. `took_s` is the
    time taken. `check_passed` is None except on attention checks, whose votes never enter a ranking.
    `vote_id` is chosen by the writer; the store counts an id once, so a repeated request is harmless.
    """

    vote_id: str
    model_a: str
    model_b: str
    outcome: str
    axis: str = ANY_AXIS
    voter: str = ""
    prompt: str = ""
    video_a: str = ""
    video_b: str = ""
    shown_first: str = ""
    took_s: float | None = None
    check_passed: bool | None = None
    cast_at: str = ""

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise ValueError(f"outcome must be one of {', '.join(OUTCOMES)}, got {self.outcome!r}")
        if not self.model_a or not self.model_b or self.model_a == self.model_b:
            raise ValueError(f"a vote needs two models, got {self.model_a!r} and {self.model_b!r}")
        if not self.axis or not self.vote_id:
            raise ValueError("a vote needs a vote_id and an axis")
        if self.shown_first not in ("", "a", "b"):
            raise ValueError(f"shown_first must be a or b, got {self.shown_first!r}")


class VoteStore:
    """One JSON object a line. Writers in other processes take turns by a file lock; nothing is rewritten."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: set[str] = set()
        self._offset = 0

    def append(self, vote: Vote) -> bool:
        """Write and fsync one vote; False when its `vote_id` is stored already (nothing is written then).

        A last line that a killed writer left unfinished is closed first and stays ignored.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                return self._append_locked(handle, vote)
            finally:
                os.close(handle)
        except OSError as error:
            raise OutputError(
                f"cannot write {self.path}: {error.strerror or error}; free some space"
            ) from error

    def _append_locked(self, handle: int, vote: Vote) -> bool:
        size = os.fstat(handle).st_size
        new = os.pread(handle, size - self._offset, self._offset)
        self._seen.update(str(row["vote_id"]) for _, row in _complete_rows(new) if "vote_id" in row)
        if vote.vote_id in self._seen:
            return False
        torn = bool(new) and not new.endswith(b"\n")
        line = ("\n" if torn else "") + json.dumps(asdict(vote), ensure_ascii=False) + "\n"
        payload = line.encode()
        if os.write(handle, payload) != len(payload):
            raise OSError("only a part of the vote was written")
        os.fsync(handle)
        self._seen.add(vote.vote_id)
        self._offset = size + len(payload)
        return True

    def read(self) -> list[Vote]:
        """All votes in order of writing, each id once; an unfinished line is skipped."""
        if not self.path.exists():
            return []
        votes: dict[str, Vote] = {}
        for line, row in _complete_rows(self.path.read_bytes()):
            vote = _vote_of_row(self.path, line, row)
            votes.setdefault(vote.vote_id, vote)
        return list(votes.values())


def _complete_rows(block: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of each line that parses; a torn write does not parse and is skipped."""
    for number, line in enumerate(block.split(b"\n"), start=1):
        try:
            row = json.loads(line) if line.strip() else None
        except ValueError:
            continue
        if isinstance(row, dict):
            yield number, row


def _vote_of_row(path: Path, line: int, row: dict[str, Any]) -> Vote:
    unknown = set(row) - {field.name for field in fields(Vote)}
    if unknown:
        raise VoteError(f"{path}: line {line}: unknown key {sorted(unknown)[0]}; was it written by kinema?")
    try:
        return Vote(**row)
    except (TypeError, ValueError) as error:
        raise VoteError(f"{path}: line {line}: {error}; correct or delete that line") from error


def read_votes(path: Path) -> list[Vote]:
    """Votes of a `.jsonl` store or of a CSV table with the columns model_a, model_b, outcome.

    Cells are separated by comma, semicolon or tab, as the header is. Optional columns: axis (default
    "overall"), voter, prompt; others are ignored. Failed attention checks and the checks themselves are left
    to `scored_votes`.
    """
    if not path.is_file():
        raise VoteError(f"{path}: no such file; give a CSV with the columns model_a, model_b, outcome")
    if path.suffix == ".jsonl":
        return VoteStore(path).read()
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            delimiter = _delimiter(handle.readline())
            handle.seek(0)
            return list(_csv_votes(path, csv.reader(handle, strict=True, delimiter=delimiter)))
    except UnicodeDecodeError as error:
        raise VoteError(
            f"{path}: not UTF-8 text at byte {error.start}; save the table as UTF-8 CSV"
        ) from error
    except csv.Error as error:
        raise VoteError(f"{path}: not a CSV table ({error}); save it as comma-separated UTF-8") from error


def _delimiter(header: str) -> str:
    """What separates the column names: the commonest of the three, a comma when none is there."""
    return max(DELIMITERS, key=header.count)


DELIMITERS = ",;\t"
CSV_COLUMNS = ("model_a", "model_b", "outcome", "axis", "voter", "prompt")


def _csv_votes(path: Path, rows: Any) -> Iterator[Vote]:  # noqa: ANN401  (csv.reader has no public type)
    header = [name.strip().lower() for name in next(rows, [])]
    for column in CSV_COLUMNS[:3]:
        if header.count(column) != 1:
            found = ", ".join(header) or "nothing"
            raise VoteError(
                f"{path}: line 1, column {column}: needed once, found {found}; name it in the header"
            )
    places = {column: header.index(column) for column in CSV_COLUMNS if column in header}
    for row in rows:
        if any(cell.strip() for cell in row):
            yield _csv_vote(path, rows.line_num, len(header), places, row)


def _csv_vote(path: Path, line: int, width: int, places: dict[str, int], row: list[str]) -> Vote:
    if len(row) != width:
        raise VoteError(
            f"{path}: line {line}: {len(row)} cells where the header has {width} columns; "
            "add or remove cells, and quote text that holds a comma"
        )
    cells = {column: row[place].strip() for column, place in places.items()}
    cells["outcome"] = cells["outcome"].lower().replace(" ", "_").replace("-", "_")
    _check_cells(path, line, cells)
    return Vote(
        vote_id=f"line-{line}",
        model_a=cells["model_a"],
        model_b=cells["model_b"],
        outcome=cells["outcome"],
        axis=cells.get("axis") or ANY_AXIS,
        voter=cells.get("voter", ""),
        prompt=cells.get("prompt", ""),
    )


def _check_cells(path: Path, line: int, cells: dict[str, str]) -> None:
    for column in ("model_a", "model_b"):
        if not cells[column]:
            raise VoteError(f"{path}: line {line}, column {column}: empty; write the model's name")
    if cells["model_a"] == cells["model_b"]:
        raise VoteError(
            f"{path}: line {line}, column model_b: {cells['model_b']!r} is compared with itself; "
            "name two different models"
        )
    if cells["outcome"] not in OUTCOMES:
        raise VoteError(
            f"{path}: line {line}, column outcome: got {cells['outcome']!r}; use one of {', '.join(OUTCOMES)}"
        )


def scored_votes(votes: list[Vote]) -> tuple[list[Vote], tuple[str, ...]]:
    """Votes that count, and the voters whose votes do not because they failed half or more of their checks.

    Attention checks are never counted themselves.
    """
    checks: dict[str, list[bool]] = {}
    for vote in votes:
        if vote.check_passed is not None:
            checks.setdefault(vote.voter, []).append(vote.check_passed)
    careless = {voter for voter, passed in checks.items() if 2 * sum(passed) <= len(passed)}
    kept = [vote for vote in votes if vote.check_passed is None and vote.voter not in careless]
    return kept, tuple(sorted(careless))
