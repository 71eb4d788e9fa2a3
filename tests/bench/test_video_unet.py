"""The benchmark of the video UNet runs end to end at a tiny size."""

from __future__ import annotations

import pytest

from kinema.bench.video_unet import Setting, run


@pytest.mark.slow
def test_runs() -> None:
    setting = Setting(channels=(64,), frames=2, side=8, sampling_steps=2)
    summary = run(rounds=1, setting=setting)
    assert summary["benchmark"] == "video_unet"
    names = [figure["name"] for figure in summary["figures"]]
    assert len(names) == len(set(names)) == 5
    assert all(figure["value"] > 0 and figure["peer_value"] > 0 for figure in summary["figures"])
    memory = summary["figures"][-1]
    assert memory["unit"] == "MB"
    assert 100 < memory["value"] < 3000
