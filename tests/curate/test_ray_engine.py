"""Ray on two nodes of this machine; the last test takes one of them away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kinema.curate.pipeline import CurateConfig, curate
from kinema.curate.ray_engine import RayEngine
from kinema.curate.workers import Budget, OverBudget, WorkerDied
from kinema.manifest import read_clips, read_sources

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SOURCE = str(Path(__file__).parents[2] / "src")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    ray = pytest.importorskip("ray", reason="ray is not installed (extra ray)")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", f"{SOURCE}:{Path(__file__).parent}")
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.setenv("RAY_worker_niceness", "0")
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        nodes.second = nodes.add_node(num_cpus=1)
        ray.init(address=nodes.address, log_to_driver=False)
        yield nodes
        ray.shutdown()
        nodes.shutdown()


@pytest.fixture
def expected(made: Path, tmp_path: Path) -> tuple:
    curate([made], tmp_path / "local", CurateConfig(workers=0))
    return result(tmp_path / "local")


def result(out: Path) -> tuple:
    return read_sources(out), read_clips(out), (out / "dataset.toml").read_text()


def free(path: Path) -> Budget:
    return Budget()


def tight(path: Path) -> Budget:
    return Budget(seconds=5)


def slow(path: Path) -> tuple[str, int]:
    """The name, and the actor that watches this process."""
    if path.name == "kills":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60 if path.name == "hangs" else 0.5)
    return path.name, os.getppid()


def niceness(path: Path) -> int:
    """Of this process."""
    return os.nice(0)


def test_workers_of_an_own_cluster_have_the_priority_of_the_run() -> None:
    pytest.importorskip("ray", reason="ray is not installed (extra ray)")
    program = (
        "from pathlib import Path; from kinema.curate.ray_engine import RayEngine;"
        "from test_ray_engine import free, niceness;"
        "print([found for _, found in RayEngine(1).run(niceness, [Path('a')], free)])"
    )
    unset = {"RAY_ADDRESS", "RAY_worker_niceness"}
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment["PYTHONPATH"] = f"{SOURCE}:{Path(__file__).parent}"
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert run.stdout.splitlines()[-1:] == [f"[{os.nice(0)}]"], run.stderr


def test_both_engines_give_the_same_rows(cluster: Any, expected: tuple, made: Path, tmp_path: Path) -> None:
    curate([made], tmp_path / "ray", CurateConfig(engine="ray", workers=2))
    assert result(tmp_path / "ray") == expected
    assert curate([made], tmp_path / "ray", CurateConfig(engine="ray")).decoded == 0


def test_what_hangs_or_dies_ends_as_on_the_local_engine(cluster: Any) -> None:
    paths = [Path(name) for name in ("a", "hangs", "kills", "b")]
    outcomes = dict(RayEngine(2).run(slow, paths, tight))
    assert outcomes[Path("hangs")] == OverBudget("took more than 5 s")
    assert outcomes[Path("kills")] == WorkerDied()
    assert [outcomes[Path(name)][0] for name in "ab"] == ["a", "b"]


def test_a_killed_actor_loses_nothing(cluster: Any) -> None:
    paths = [Path(f"source{index}") for index in range(12)]
    outcomes = {}
    for path, outcome in RayEngine(2).run(slow, paths, free):
        if not outcomes:
            os.kill(outcome[1], signal.SIGKILL)
        outcomes[path] = outcome[0]
    assert outcomes == {path: path.name for path in paths}


def test_a_killed_run_goes_on(cluster: Any, expected: tuple, made: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kinema", "curate", str(made), "--out", str(tmp_path / "out")]
    environment = os.environ | {"RAY_ADDRESS": cluster.address, "PYTHONPATH": SOURCE}
    run = subprocess.Popen([*command, "--engine", "ray"], env=environment, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not list((tmp_path / "out").glob("sources/part-*")) and time.monotonic() < end:
        time.sleep(0.02)
    run.kill()
    run.wait()
    assert 1 <= len(read_sources(tmp_path / "out")) < 4
    curate([made], tmp_path / "out", CurateConfig(engine="ray"))
    assert result(tmp_path / "out") == expected


def test_a_lost_node_loses_nothing(cluster: Any) -> None:
    paths = [Path(f"source{index}") for index in range(16)]
    outcomes = {}
    for path, outcome in RayEngine(2).run(slow, paths, free):
        if len(outcomes) == 2:
            cluster.remove_node(cluster.second, allow_graceful=False)
        outcomes[path] = outcome[0]
    assert outcomes == {path: path.name for path in paths}
