"""Configuration: one TOML file and `--set key=value`, laid over the defaults of a frozen dataclass.

The dataclasses stand beside their owners; here they are put under a strict pydantic root, which refuses a key
that no section has. What is resolved can be written as `resolved.toml` and read back to the same value.

A field that is a union of sections chooses by a `kind` key: each member has a field `kind: Literal["name"]`
with its name as default. A table of a field that is no section (a dict) replaces the default as a whole.
"""

from __future__ import annotations

import difflib
import json
import tomllib
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tomli_w
from pydantic import ConfigDict, TypeAdapter, ValidationError, create_model
from pydantic_core import ErrorDetails

from kinema.errors import ConfigError
from kinema.files import write_text

T = TypeVar("T")
Table = dict[str, Any]


def load_config(
    kind: type[T],
    file: Path | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
    base: Mapping[str, Any] | None = None,
) -> T:
    """The defaults of `kind`, then the file's keys, then each `key=value` of `overrides`; the last one wins.

    `flags` are top-level keys that have flags of their own; None means that the flag was not given. `base`
    are settings of an earlier run, whole sections, that take the place of the defaults.

    Raises `ConfigError` with one line that names the file or the override, the key, and what would fit.
    """
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    layers: list[tuple[str, Table]] = [("command line", given)]
    layers += [("--set", _parse_override(override)) for override in reversed(overrides)]
    if file is not None:
        layers.append((str(file), _read(file)))
    table = {**_defaults(kind), **(base or {})}
    for origin, layer in reversed(layers):
        _overlay(kind, table, layer, origin)
    root = create_model("Root", __config__=ConfigDict(extra="forbid", strict=True), config=(kind, ...))
    try:
        # JSON mode: strict about types, yet a list is a tuple and a string is a path.
        validated = root.model_validate_json(json.dumps({"config": table}, default=str))
    except ValidationError as error:
        raise ConfigError(_explain(kind, error.errors(include_url=False), layers)) from None
    config: T = validated.config  # type: ignore[attr-defined]
    return config


def dump_config(config: object) -> str:
    """TOML that `load_config` reads back to an equal value. A None is left out: TOML has no null."""
    return tomli_w.dumps(_table(config))


def write_resolved(folder: Path, config: object) -> None:
    """Write `resolved.toml`: every key with the value that was used."""
    write_text(folder / "resolved.toml", dump_config(config))


def find_recipe(name: str, kind: Literal["recipe", "protocol", "ablation", "chain"] = "recipe") -> Path:
    """A TOML file by path, or one of the `kind` that comes with kinema by its bare name.

    Raises `ConfigError` naming the nearest one.
    """
    folder = Path(str(files("kinema") / f"{kind}s"))
    if name.endswith(".toml") or "/" in name:
        return Path(name)
    if (folder / f"{name}.toml").is_file():
        return folder / f"{name}.toml"
    known = sorted(path.stem for path in folder.glob("*.toml"))
    raise ConfigError(
        f'no {kind} is called "{name}"; {_nearest(name, known)}, or give the path of a .toml file'
    )


def keys(kind: type, prefix: str = "") -> Iterator[str]:
    """Every dotted key that a file for `kind` may set, sections included."""
    for name, hint in get_type_hints(kind).items():
        yield prefix + name
        for member in members_of(hint):
            yield from keys(member, f"{prefix}{name}.")


def _read(file: Path) -> Table:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: not a text file in UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}; give the path of a TOML file") from None


def _parse_override(override: str) -> Table:
    key, equals, text = override.partition("=")
    text = text.strip()
    if not key.strip() or not equals:
        raise ConfigError(f'--set {override}: expected key=value, for example "seed=7"')
    bare_word = text[:1] not in ("", '"', "'", "[", "{")
    for value in (text, json.dumps(text)) if bare_word else (text,):
        try:
            return tomllib.loads(f"{key} = {value}")
        except tomllib.TOMLDecodeError as error:
            fault = error
    raise ConfigError(f"--set {override}: not a TOML value: {fault}")


def _defaults(kind: type) -> Table:
    """The default of every field, as plain TOML values; fields without one are absent."""
    hints = get_type_hints(kind)
    table: Table = {}
    for item in fields(kind):
        if item.default is not MISSING:
            table[item.name] = _plain(item.default)
        elif item.default_factory is not MISSING:
            table[item.name] = _plain(item.default_factory())
        elif len(members := members_of(hints[item.name])) == 1:
            table[item.name] = _defaults(members[0])
    return {name: value for name, value in table.items() if value is not None}


def _overlay(kind: type, base: Table, layer: Table, origin: str, prefix: str = "") -> None:
    """Lay `layer` over `base` in place, section by section."""
    hints = get_type_hints(kind)
    for name, value in layer.items():
        members = members_of(hints[name]) if name in hints else []
        if not members or not isinstance(value, dict):
            base[name] = value
            continue
        under = base.setdefault(name, {})
        member = _chosen(members, {**under, **value}, f"{origin}: {prefix}{name}")
        if value.get("kind", under.get("kind")) != under.get("kind"):
            under = base[name] = _defaults(member)
        _overlay(member, under, value, origin, f"{prefix}{name}.")


def _chosen(members: list[type], table: Table, where: str) -> type:
    """The member of a union whose `kind` the table names."""
    if len(members) == 1:
        return members[0]
    by_kind = {str(getattr(member, "kind", member.__name__)): member for member in members}
    if table.get("kind") not in by_kind:
        choices = " or ".join(f'"{choice}"' for choice in by_kind)
        raise ConfigError(f"{where}.kind is {json.dumps(table.get('kind'), default=str)}; expected {choices}")
    return by_kind[table["kind"]]


def members_of(hint: object) -> list[type]:
    """The dataclasses that a field's type admits: none for a plain value, several for a union of sections."""
    if get_origin(hint) is Annotated:
        return members_of(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return [member for part in get_args(hint) for member in members_of(part)]
    return [hint] if is_dataclass(hint) and isinstance(hint, type) else []


def _table(config: object) -> Table:
    table = _plain(config)
    assert isinstance(table, dict)
    return table


def _plain(value: object) -> object:
    return _without_none(TypeAdapter(Any).dump_python(value, mode="json"))


def _without_none(value: object) -> object:
    if isinstance(value, dict):
        return {str(name): _without_none(item) for name, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


def _explain(kind: type, faults: list[ErrorDetails], layers: list[tuple[str, Table]]) -> str:
    """The first fault as one line; a key that nobody knows comes before a value that does not fit."""
    other_kinds = [fault["loc"][:-1] for fault in faults if _is_other_kind(fault)]
    faults = [fault for fault in faults if fault["loc"][: len(fault["loc"]) - 1] not in other_kinds] or faults
    fault = min(faults, key=lambda fault: fault["type"] != "unexpected_keyword_argument")
    path, around = _place(kind, fault["loc"][1:])
    origin = next((origin for origin, layer in layers if layer and _sets(layer, path)), "defaults")
    if fault["type"] == "unexpected_keyword_argument":
        section = path.rpartition(".")[0]
        siblings = [f"{section}.{name}" if section else name for name in get_type_hints(around)]
        return f'{origin}: unknown key "{path}"; {_nearest(path, siblings, list(keys(kind)))}'
    if fault["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f'{origin}: missing key "{path}"; set it in the file or with --set {path}=VALUE'
    told = fault["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if fault["type"] == "value_error":
        return f"{origin}: {path}: {told}" if path else f"{origin}: {told}"
    return f"{origin}: {path} = {json.dumps(fault['input'], default=str)}: {told}"


def _is_other_kind(fault: ErrorDetails) -> bool:
    return fault["type"] == "literal_error" and fault["loc"][-1] == "kind"


def _place(kind: type, location: tuple[int | str, ...]) -> tuple[str, type]:
    """The dotted key of a pydantic location, and the section whose field its last part is or should be."""
    path, around = "", kind
    hint: object = kind
    members = [kind]
    for part in location:
        branch = next((member for member in members if member.__name__ == part), None)
        if branch is not None and len(members) > 1:
            members = [branch]
            continue
        around = next(
            (member for member in members if part in get_type_hints(member)), (members or [around])[0]
        )
        hint = get_type_hints(around).get(str(part), Any) if members else _item(hint)
        members = members_of(hint)
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path, around


def _item(hint: object) -> object:
    """The type inside a container's type."""
    inner = [part for part in get_args(hint) if part is not Ellipsis]
    return inner[-1] if inner else Any


def _sets(layer: Mapping[str, Any], path: str) -> bool:
    """Whether this layer set the key, something in it, or a value around it."""
    here: Any = layer
    for name in path.partition("[")[0].split(".") if path else ():
        if not isinstance(here, dict):
            return True
        if name not in here:
            return False
        here = here[name]
    return True


def _nearest(name: str, siblings: list[str], elsewhere: Sequence[str] = ()) -> str:
    """What was probably meant: a sibling, else the same name in another section, else the siblings."""
    last = name.rpartition(".")[2]

    def like(candidates: Sequence[str], cutoff: float) -> list[str]:
        by_last = {key.rpartition(".")[2]: key for key in reversed(candidates)}
        return [by_last[match] for match in difflib.get_close_matches(last, by_last, n=1, cutoff=cutoff)]

    near = like(siblings, 0.6) or like(elsewhere, 0.8)
    return f'did you mean "{near[0]}"?' if near else f"known here: {', '.join(siblings)}"
