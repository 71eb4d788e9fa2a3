from __future__ import annotations

from pathlib import Path

from kinema.curate.made_captions import MadeCaption, MadeCaptions
from kinema.manifest import Caption, Clip

CLIP = Clip(
    clip_id="a",
    source_id="s",
    source_path="/x.mp4",
    start_frame=0,
    end_frame=50,
    start_s=0.0,
    end_s=2.0,
    cut_kind_start="start",
    cut_kind_end="end",
    frames=50,
    fps=25.0,
    width=320,
    height=180,
    aspect_ratio=180 / 320,
    duration_s=2.0,
)
FILENAME = Caption(text="dog", kind="filename")
SIDECAR = Caption(text="a dog", kind="sidecar")


def made(kind: str, text: str, key: str = "k", model: str = "m") -> MadeCaption:
    return MadeCaption(clip_id="a", kind=kind, model=model, key=key, text=text)


def test_what_was_written_is_known_to_the_next_run(tmp_path: Path) -> None:
    MadeCaptions(tmp_path).write([made("image", "a brown dog")])
    again = MadeCaptions(tmp_path)
    assert again.text("a", "image", "m", "k") == "a brown dog"
    assert again.text("a", "image", "m", "another way") is None
    assert again.text("a", "image", "another", "k") is None
    assert again.text("b", "image", "m", "k") is None


def test_the_latest_of_a_kind_and_model_holds(tmp_path: Path) -> None:
    ledger = MadeCaptions(tmp_path)
    for number in range(12):  # part names keep their order past ten
        ledger.write([made("image", f"text {number}", key=str(number))])
    ledger.write([])
    again = MadeCaptions(tmp_path)
    (caption,) = again.added_to(CLIP, []).captions
    assert caption == Caption(text="text 11", kind="image", model="m")
    older = Caption(text="text 3", kind="image", model="m")
    assert again.added_to(CLIP, [SIDECAR, older]).captions == (SIDECAR, caption)


def test_two_models_stand_side_by_side(tmp_path: Path) -> None:
    ledger = MadeCaptions(tmp_path)
    ledger.write([made("image", "one", model="x"), made("image", "two", model="y")])
    assert [item.model for item in ledger.added_to(CLIP, []).captions] == ["x", "y"]


def test_words_of_the_file_name_stay_until_a_model_has_seen_the_clip(tmp_path: Path) -> None:
    ledger = MadeCaptions(tmp_path)
    ledger.write([made("measured", "2 s", model="kinema")])
    assert [item.kind for item in ledger.added_to(CLIP, [FILENAME]).captions] == ["filename", "measured"]
    ledger.write([made("image", "a brown dog")])
    assert [item.kind for item in ledger.added_to(CLIP, [FILENAME]).captions] == ["image", "measured"]
