"""The command that measures: every module of kinema.bench with a function `run` is a benchmark."""

from __future__ import annotations

import importlib
import re
from importlib.resources import files
from types import ModuleType
from typing import Annotated

from cyclopts import Parameter

from kinema.cli.commands import Json, app
from kinema.cli.terminal import show
from kinema.errors import ConfigError


def benchmarks() -> list[str]:
    """The names that `kinema bench` knows; nothing is imported to find them."""
    modules = (path for path in files("kinema.bench").iterdir() if path.name.endswith(".py"))
    found = re.compile(r"^def run\(", re.MULTILINE)
    return sorted(path.name.removesuffix(".py") for path in modules if found.search(path.read_text("utf-8")))


@app.command(help_epilogue="Example: kinema bench stdit2 --json")
def bench(
    name: Annotated[str | None, Parameter(help="The benchmark; all names are listed when left out.")] = None,
    /,
    *,
    only: Annotated[str | None, Parameter(help="One part of a benchmark that has parts.")] = None,
    json: Json = False,
) -> int:
    """Measure this machine: every figure beside its peer, interleaved in one run."""
    known = benchmarks()
    if name is None:
        show({"benchmarks": known}, as_json=json, text="\n".join(known))
        return 0
    name = name.replace("-", "_")
    if name not in known:
        raise ConfigError(f"no benchmark is called {name!r}; known are {', '.join(known)}")
    module = importlib.import_module(f"kinema.bench.{name}")
    summary = module.run() if only is None else module.run(only=_part(name, module, only))
    show(summary, as_json=json, text="\n".join([_table(summary["figures"]), *summary["notes"]]))
    return 0


def _part(name: str, module: ModuleType, only: str) -> str:
    parts: tuple[str, ...] = getattr(module, "PARTS", ())
    if only not in parts:
        known = f"its parts are {', '.join(parts)}" if parts else "it has no parts"
        raise ConfigError(f"benchmark {name} has no part {only!r}: {known}")
    return only


def _table(figures: list[dict[str, object]]) -> str:
    return "\n".join(_row(figure) for figure in figures)


def _row(figure: dict[str, object]) -> str:
    beside = f"  {figure['ratio']:.2f} of {figure['peer']}" if figure["ratio"] else ""
    verdict = {True: "  met", False: "  not met", None: ""}[figure["met"]]  # type: ignore[index]
    return f"{figure['name']}: {figure['value']:.4g} {figure['unit']}{beside}{verdict}"
