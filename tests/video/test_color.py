from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kinema.video.color import Transfer, tone_map
from kinema.video.reader import read_frames


def grey(level: float) -> np.ndarray:
    return np.full((2, 2, 3), round(65535 * level), dtype=np.uint16)


@pytest.mark.parametrize(("transfer", "white"), [(Transfer.PQ, 0.58), (Transfer.HLG, 0.75)])
def test_diffuse_white_is_bright_but_leaves_room_for_highlights(transfer: Transfer, white: float) -> None:
    shown = tone_map(grey(white), transfer)
    assert 225 <= shown.mean() <= 250
    assert tone_map(grey(1.0), transfer).mean() > shown.mean()


@pytest.mark.parametrize("transfer", list(Transfer))
def test_greys_stay_grey_and_keep_their_order(transfer: Transfer) -> None:
    shown = np.stack([tone_map(grey(level), transfer)[0, 0] for level in np.linspace(0, 1, 40)]).astype(int)
    assert np.abs(shown - shown[:, :1]).max() <= 2
    assert (np.diff(shown[:, 0]) >= 0).all()
    assert shown[0, 0] == 0


def test_real_hdr_clips_are_well_exposed(footage: Path) -> None:
    for name in ("rooftops_portrait_av1_hdr.mp4", "rooftop_portrait_hevc10.mp4"):
        frame = read_frames(footage / "videos" / name, [1.0])[0]
        assert 60 < frame.mean() < 190
        assert frame.std() > 30
