from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from kinema.curate.engines import LocalEngine, WorkerDied


def length(path: Path) -> int:
    return len(path.name)


def dies_once(path: Path, marks: Path) -> str:
    """Killed as if by the kernel the first time that a name with "once" comes, and always with "always"."""
    mark = marks / path.name
    if "always" in path.name or ("once" in path.name and not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return path.name


def test_works_in_this_process_without_workers() -> None:
    engine = LocalEngine(lambda path: len(path.name), workers=0)
    assert list(engine.run([Path("a"), Path("bb")])) == [(Path("a"), 1), (Path("bb"), 2)]


def test_a_killed_worker_costs_only_the_source_that_kills_it(tmp_path: Path) -> None:
    paths = [Path(name) for name in ("a", "b-once", "c", "d-always", "e", "f")]
    results = dict(LocalEngine(partial(dies_once, marks=tmp_path), workers=2).run(paths))
    assert results.pop(Path("d-always")) == WorkerDied()
    assert results == {path: path.name for path in paths if path.name != "d-always"}


def fails(path: Path) -> int:
    raise RuntimeError(f"a defect, not a bad file: {path}")


def test_a_defect_is_not_swallowed() -> None:
    with pytest.raises(RuntimeError, match="a defect"):
        list(LocalEngine(fails, workers=1).run([Path("a")]))
