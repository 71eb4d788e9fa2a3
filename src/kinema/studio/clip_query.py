"""What a visitor asks of the clip table, read from the address and turned into SQL over known columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urlencode

import pyarrow as pa

from kinema.manifest import CLIP_SCHEMA

PAGE_SIZE = 48
_CONDITION = re.compile(r"(\w+)\s*(>=|<=|!=|=|>|<|~)\s*(.*)", re.DOTALL)
_LEFT_OUT = {"captions", "frame_hashes", "drop_reasons"}


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


COLUMNS: dict[str, Literal["number", "text", "flag"]] = {
    **{
        item.name: "number" if _is_number(item.type) else "flag" if item.type == pa.bool_() else "text"
        for item in CLIP_SCHEMA
        if item.name not in _LEFT_OUT
    },
    "side": "number",
    "caption_text": "text",
    "reasons": "text",
}
"""The columns that can be sorted and filtered by, and what they hold."""


@dataclass(frozen=True)
class Condition:
    """A column, a comparison and a value; an empty value is a row that has none."""

    column: str
    sign: str
    value: str

    def __str__(self) -> str:
        return f"{self.column}{self.sign}{self.value}"

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.column} {self.sign.replace('~', 'contains')} {self.value or 'empty'}"

    def sql(self) -> tuple[str, list[Any]]:
        """With its parameters; only known columns get here."""
        kind, name = COLUMNS[self.column], f'"{self.column}"'
        if not self.value:
            return f"{name} IS {'NOT ' if self.sign == '!=' else ''}NULL", []
        if self.sign == "~":
            return f"contains(lower(CAST({name} AS VARCHAR)), ?)", [self.value.lower()]
        value: Any = self.value
        if kind == "number":
            value = float(self.value)
        if kind == "flag":
            value = self.value.lower() in ("true", "yes", "1")
        return f"{name} {self.sign} ?", [value]


@dataclass(frozen=True, kw_only=True)
class ClipQuery:
    """Words in captions, kept or not, conditions, an order and a page (from 1)."""

    text: str = ""
    kept: Literal["all", "kept", "dropped"] = "all"
    conditions: tuple[Condition, ...] = ()
    sort: str = ""
    descending: bool = False
    page: int = 1

    def where(self) -> tuple[str, list[Any]]:
        """The WHERE clause and its parameters. Every word has to be in some caption."""
        parts, values = ["true"], list[Any]()
        for word in self.text.lower().split():
            parts.append("contains(caption_text, ?)")
            values.append(word)
        if self.kept != "all":
            parts.append("kept" if self.kept == "kept" else "NOT kept")
        for condition in self.conditions:
            clause, given = condition.sql()
            parts.append(clause)
            values += given
        return " AND ".join(parts), values

    def order(self) -> str:
        """The ORDER BY clause, total, so that pages do not overlap."""
        rest = "source_path, start_frame, clip_id"
        if not self.sort:
            return rest
        return f'"{self.sort}" {"DESC" if self.descending else "ASC"} NULLS LAST, {rest}'

    def address(self, **changes: Any) -> str:  # noqa: ANN401 - whatever a field holds
        """The query string of this query with some fields changed."""
        return urlencode(replace(self, page=1)._with(changes).pairs())

    def without(self, condition: Condition) -> str:
        """The query string without one condition."""
        return self.address(conditions=tuple(item for item in self.conditions if item != condition))

    def pairs(self) -> list[tuple[str, str]]:
        """As the address has it; what is as usual is left out."""
        pairs = [("q", self.text)] if self.text else []
        pairs += [("kept", self.kept)] if self.kept != "all" else []
        pairs += [("where", str(item)) for item in self.conditions]
        pairs += [("sort", ("-" if self.descending else "") + self.sort)] if self.sort else []
        return pairs + ([("page", str(self.page))] if self.page > 1 else [])

    def _with(self, changes: Mapping[str, Any]) -> ClipQuery:
        return replace(self, **changes)


def read_query(pairs: Sequence[tuple[str, str]]) -> tuple[ClipQuery, list[str]]:
    """The query of an address, and what in it was not understood, in words."""
    single = dict(pairs)
    faults = list[str]()
    conditions = list[Condition]()
    for name, value in pairs:
        if name == "where" and value.strip():
            condition = _condition(value)
            if isinstance(condition, str):
                faults.append(condition)
            elif condition not in conditions:
                conditions.append(condition)
    if single.get("column"):  # the form that adds a condition
        added = _condition(f"{single['column']}{single.get('sign', '=')}{single.get('value', '')}")
        if isinstance(added, str):
            faults.append(added)
        else:
            conditions.append(added)
    sort = single.get("sort", "")
    descending = sort.startswith("-")
    if (name := sort.removeprefix("-")) and name not in COLUMNS:
        faults.append(f"There is no column {name!r} to sort by.")
        name = ""
    page = single.get("page", "1")
    kept = single.get("kept", "all")
    return (
        ClipQuery(
            text=single.get("q", "").strip()[:200],
            kept=kept if kept in ("kept", "dropped") else "all",  # type: ignore[arg-type]
            conditions=tuple(conditions[:12]),
            sort=name,
            descending=descending,
            page=min(max(1, int(page)), 10**6) if page.isdecimal() else 1,
        ),
        faults,
    )


def _condition(text: str) -> Condition | str:
    match = _CONDITION.fullmatch(text.strip())
    if match is None:
        return f"{text!r} is no condition; write such as motion_score>=2."
    condition = Condition(match[1], match[2], match[3].strip()[:200])
    if condition.column not in COLUMNS:
        return f"There is no column {condition.column!r}."
    if COLUMNS[condition.column] == "number" and condition.value and condition.sign != "~":
        try:
            float(condition.value)
        except ValueError:
            return f"{condition.column} is a number, and {condition.value!r} is none."
    return condition
