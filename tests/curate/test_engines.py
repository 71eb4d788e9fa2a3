from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from kinema.curate.engines import LocalEngine, build_engine
from kinema.curate.pool import Pool
from kinema.curate.workers import Budget, OverBudget, WorkerDied


def length(path: Path) -> int:
    return len(path.name)


def free(path: Path) -> Budget:
    return Budget()


def tight(path: Path) -> Budget:
    return Budget(seconds=4.0, memory_mb=600)


def dies_once(path: Path, marks: Path) -> str:
    """Killed as if by the kernel the first time that a name with "once" comes, and always with "always"."""
    mark = marks / path.name
    if "always" in path.name or ("once" in path.name and not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return path.name


def costly(path: Path) -> str:
    match path.name:
        case "hangs":
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
            time.sleep(600)
        case "eats":
            hoard = []
            while True:
                hoard.append(bytearray(b"x") * (32 << 20))
                time.sleep(0.02)
    return path.name


def test_works_in_this_process_without_workers() -> None:
    results = LocalEngine(workers=0).run(lambda path: len(path.name), [Path("a"), Path("bb")], free)
    assert list(results) == [(Path("a"), 1), (Path("bb"), 2)]


def test_a_killed_worker_costs_only_the_source_that_kills_it(tmp_path: Path) -> None:
    paths = [Path(name) for name in ("a", "b-once", "c", "d-always", "e", "f")]
    results = dict(LocalEngine(workers=2).run(partial(dies_once, marks=tmp_path), paths, free))
    assert results.pop(Path("d-always")) == WorkerDied()
    assert results == {path: path.name for path in paths if path.name != "d-always"}


def test_what_hangs_or_eats_memory_is_killed_and_the_rest_goes_on() -> None:
    paths = [Path(name) for name in ("a", "hangs", "eats", "b", "c")]
    results = dict(LocalEngine(workers=2).run(costly, paths, tight))
    assert results == {
        Path("a"): "a",
        Path("b"): "b",
        Path("c"): "c",
        Path("hangs"): OverBudget("took more than 4 s"),
        Path("eats"): OverBudget("needs more than 600 MB of memory"),
    }


def whose(path: Path) -> tuple[str, int]:
    return path.name, os.getpid()


def test_a_worker_killed_between_tasks_mixes_nothing_up() -> None:
    pool = Pool(whose, free, 1)
    try:
        ((_, (_, first)),) = pool.run([Path("a")])
        os.kill(first, signal.SIGKILL)
        time.sleep(0.2)
        results = dict(pool.run([Path("b"), Path("c")]))
    finally:
        pool.close()
    assert [results[Path(name)][0] for name in "bc"] == ["b", "c"]
    assert results[Path("b")][1] == results[Path("c")][1] != first


def fails(path: Path) -> int:
    raise RuntimeError(f"a defect, not a bad file: {path}")


def test_a_defect_is_not_swallowed() -> None:
    with pytest.raises(RuntimeError, match="a defect"):
        list(LocalEngine(workers=1).run(fails, [Path("a")], free))


def test_workers_are_never_more_than_tasks() -> None:
    assert build_engine("local", None, 1) == LocalEngine(1)
    assert build_engine("local", 8, 3) == LocalEngine(3)
    assert build_engine("local", 0, 3) == LocalEngine(0)
