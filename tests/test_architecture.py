"""What ruff and mypy cannot see: layers, one owner for a library, lengths, names, words that must not be."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
MODULES = sorted((SOURCE / "kinema").rglob("*.py"))
PYTHON = [*MODULES, *sorted((ROOT / "tests").rglob("*.py"))]

LAYERS = [
    {"errors"},
    {"shapes", "motion", "files", "location", "progress", "conventions"},
    {"manifest", "checkpoint", "runlog", "page"},
    {"nn", "diffusion"},
    {"encoders", "video", "lora"},
    {"model"},
    {"dataset", "denoiser"},
    {"train", "generate", "evaluate", "curate", "convert", "render", "world"},
    {"demo", "studio", "caching", "ablate", "simulate", "chain"},
    {"bench"},
    {"config"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

OWNERS = {
    "av": {"video"},
    "transformers": {"encoders", "convert"},
    "diffusers": {"encoders", "convert", "bench"},  # bench has diffusers' own networks as peers
    "cyclopts": {"cli"},
    "rich": {"cli"},
    "trimesh": {"render"},
    **{name: {"studio"} for name in ("fastapi", "uvicorn", "jinja2")},
    "starlette": {"studio", "bench"},  # bench asks for pages without a network
}
"""Libraries that only these parts may import."""

LARGEST = {"src/kinema/models/world/network/model.safetensors": 12_000_000}
"""The weights of the model that comes with kinema, in half precision."""

VAGUE = {"util", "utils", "helper", "helpers", "common", "misc"}


def dotted(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part(module: str) -> str:
    """The layer's name: `kinema.nn.stdit2` is in `nn`; the package itself is in none."""
    return module.partition(".")[2].partition(".")[0]


@cache
def imports(path: Path) -> frozenset[str]:
    """Every module that a file names in an import, at any depth; `from a import b` names a and a.b."""
    names = set[str]()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def points_down(importer: str, imported: str) -> bool:
    """Whether a module may import another: within its part, or a part on a lower line."""
    above, below = part(importer), part(imported)
    return not below or above == below or LEVEL[above] > LEVEL[below]


def own_imports(path: Path) -> set[str]:
    known = {dotted(module) for module in MODULES}
    return {name for name in imports(path) if name in known}


def test_every_part_has_a_layer() -> None:
    parts = {part(dotted(path)) for path in MODULES} - {""}
    assert parts <= set(LEVEL), f"put these in LAYERS and docs/layers.md: {parts - set(LEVEL)}"


def test_the_page_on_layers_shows_the_same_layers() -> None:
    table = (ROOT / "docs/layers.md").read_text(encoding="utf-8").split("```")[1]
    lines = [set(line.split(" · ")) for line in table.strip().splitlines()]
    assert lines == LAYERS[-2::-1]


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_point_down(path: Path) -> None:
    module = dotted(path)
    if module == "kinema":
        assert not own_imports(path)
        return
    wrong = {name for name in own_imports(path) if name != "kinema" and not points_down(module, name)}
    assert not wrong, f"{module} imports {wrong}, which is not below it"


def test_pointing_down_is_told_from_pointing_up() -> None:
    assert points_down("kinema.train.loop", "kinema.diffusion.iddpm")
    assert points_down("kinema.train.loop", "kinema.train.state")
    assert not points_down("kinema.train.loop", "kinema.curate.pipeline")
    assert not points_down("kinema.nn.stdit2", "kinema.diffusion.iddpm")


def test_no_import_cycle() -> None:
    graph = {dotted(path): own_imports(path) - {dotted(path)} for path in MODULES}
    done = set[str]()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
        if module not in done:
            for other in sorted(graph[module]):
                # A package's own __init__ may gather names from inside it.
                if not module.startswith(f"{other}."):
                    visit(other, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize(("library", "owners"), OWNERS.items())
def test_a_library_is_imported_in_one_place(library: str, owners: set[str]) -> None:
    users = {
        part(dotted(path)) for path in MODULES for name in imports(path) if name.split(".")[0] == library
    }
    assert users <= owners, f"{library} is imported by {users - owners}"


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def test_functions_are_short() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{name}": lines
        for path in PYTHON
        for name, lines in functions(path)
        if lines > 60
    }
    assert not long, f"over 60 lines: {long}"
    assert statistics.median(lines for path in MODULES for _, lines in functions(path)) <= 12


def test_files_are_short() -> None:
    lengths = {str(path.relative_to(ROOT)): path.read_text("utf-8").count("\n") for path in PYTHON}
    long = {name: lines for name, lines in lengths.items() if lines > 400}
    assert not long, f"over 400 lines: {long}"


def test_names_say_what_is_inside() -> None:
    vague = [path for path in PYTHON if VAGUE & set(path.relative_to(ROOT).with_suffix("").parts)]
    assert not vague


def tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.split("\0") if name]


def test_nothing_of_one_machine_is_tracked() -> None:
    """Absolute paths of a home or work folder, and hosts of package registries: nobody else has them."""
    hosts = ["py" + "pi.org", "python" + "hosted.org", "download.py" + "torch.org", "registry.npm" + "js"]
    folders = ["/" + "work/", "/" + "root/", "/" + "opt/wheels"]
    forbidden = re.compile("|".join(rf"(?<![\w.]){re.escape(word)}" for word in hosts + folders))
    found = []
    for path in tracked():
        if path.is_file() and path.suffix in {"", ".py", ".md", ".toml", ".txt", ".json", ".css", ".html"}:
            text = path.read_text(encoding="utf-8", errors="replace")
            found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in forbidden.finditer(text)]
    assert not found


def test_no_file_is_large() -> None:
    large = [
        str(path.relative_to(ROOT))
        for path in tracked()
        if path.is_file() and path.stat().st_size > LARGEST.get(str(path.relative_to(ROOT)), 4_000_000)
    ]
    assert not large
