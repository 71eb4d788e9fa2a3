from __future__ import annotations

import torch

from kinema.bench.figures import Figure, interleaved, matmul_task, report


def test_a_target_is_judged_in_its_direction() -> None:
    fast = Figure(name="rate", value=3.0, unit="/s", peer="peer", peer_value=2.0, target=1.4)
    slow = Figure(name="memory", value=3.0, unit="GB", target=2.2, bounds="value", better="lower")
    assert (fast.ratio, fast.met, slow.met) == (1.5, True, False)
    assert Figure(name="plain", value=1.0, unit="s").met is None


def test_every_task_runs_in_every_round_and_the_warm_up() -> None:
    calls: list[str] = []
    seconds = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2)
    assert calls == ["a", "b"] * 3
    assert set(seconds) == {"a", "b"}


def test_matmul_counts_its_operations() -> None:
    task, operations = matmul_task(4, 5, 6, torch.float32)
    assert operations == 240
    assert isinstance(product := task(), torch.Tensor)
    assert product.shape == (4, 6)


def test_a_report_names_the_machine() -> None:
    made = report("nothing", [Figure(name="plain", value=1.0, unit="s")])
    assert made["machine"]["cores"] >= 1
    assert made["figures"][0]["met"] is None
