from __future__ import annotations

import pytest
import torch

from kinema.motion import MotionMap


def test_scores_are_told_by_their_share_of_the_dataset() -> None:
    scores = torch.linspace(0, 3, 1001).square()
    motion = MotionMap.of(scores.tolist())
    assert motion is not None
    told = motion.told(scores[[0, 250, 500, 750, 1000]])
    torch.testing.assert_close(told, torch.tensor([0.0, 63.75, 127.5, 191.25, 255.0]), atol=1.0, rtol=0)
    assert motion.told(torch.tensor([float("nan"), -1.0, 99.0])).tolist() == [127.0, 0.0, 255.0]
    assert motion.score(127.5) == pytest.approx(2.25, abs=0.05)


def test_equal_scores_are_told_the_middle_of_their_share() -> None:
    motion = MotionMap.of([1.0] * 100)
    assert motion is not None
    assert motion.told(torch.tensor([1.0])).item() == pytest.approx(127.5)
    assert MotionMap.of([]) is None


def test_scores_must_rise() -> None:
    with pytest.raises(ValueError, match="rising"):
        MotionMap(scores=(2.0, 1.0))
