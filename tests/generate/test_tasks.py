from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kinema.encoders.latent_frames import TimeGrid
from kinema.errors import ConfigError
from kinema.generate.conditioning import Reference, lay, strengths
from kinema.generate.tasks import (
    Animate,
    Connect,
    Edit,
    Extend,
    FromText,
    Interpolate,
    Plan,
    Request,
    Task,
    files_of,
    plan_of,
)


def plan(task: Task, **values: object) -> Plan:
    segments = int(str(values.pop("segments", 1)))
    values = {"frames": 8, "fps": 6.0, "grid": TimeGrid(1), "prompts": ("a",) * segments} | values
    return plan_of(task, Request(**values))


def there(task: Task, clip: Path) -> Task:
    """The task with the clip in place of each file that is named CLIP."""
    match task:
        case FromText(references=references):
            return FromText(references=tuple(replace(item, path=clip) for item in references))
        case Extend() | Edit():
            return replace(task, clip=clip) if task.clip == Path("CLIP") else task
        case Connect():
            return replace(task, start=clip, end=clip)
        case Interpolate():
            return replace(task, sources=(clip,))
        case Animate():
            return task


def masks(made: Plan) -> list[str]:
    """Each window's frames: # given, + edited, . made; ~ taken over, = the beginning again."""
    pictures = []
    for window in made.windows:
        cells = lay(window.references, made.lengths, window.frames)
        signs = ["#" if value == 0 else "." if value == 1 else "+" for value in strengths(cells)]
        signs[: window.overlap] = "~" * window.overlap
        signs[len(signs) - window.closing :] = "=" * window.closing
        pictures.append("".join(signs))
    return pictures


def shown(made: Plan) -> list[tuple[int, int]]:
    return [window.shown for window in made.windows]


def test_text_gives_nothing() -> None:
    made = plan(FromText())
    assert (masks(made), shown(made)) == (["........"], [(0, 8)])


def test_a_picture_is_the_first_frame(pictures: tuple[Path, Path]) -> None:
    assert masks(plan(Animate(image=pictures[0]))) == ["#......."]


def test_segments_take_over_the_end_of_the_one_before() -> None:
    made = plan(FromText(), prompts=("a", "b", "b"), overlap=3)
    assert masks(made) == ["........", "~~~.....", "~~~....."]
    assert shown(made) == [(0, 8), (3, 8), (3, 8)]
    assert [window.prompt for window in made.windows] == ["a", "b", "b"]
    assert masks(plan(FromText(), segments=2))[1] == "~~......"


def test_references_of_a_segment(pictures: tuple[Path, Path]) -> None:
    reference = Reference(path=pictures[0], at=-1, segment=1)
    assert masks(plan(FromText(references=(reference,)), segments=2)) == ["........", "~~.....#"]
    with pytest.raises(ConfigError, match="for segment 1, but there are 1"):
        plan(FromText(references=(reference,)))


def test_a_loop_of_text_makes_its_first_frame_first() -> None:
    made = plan(FromText(), loop=True)
    assert masks(made) == [".", "~.......="]
    assert shown(made) == [(0, 0), (0, 8)]


def test_a_loop_of_segments_closes_in_the_last() -> None:
    made = plan(FromText(), loop=True, segments=2)
    assert masks(made) == ["........", "~~......="]
    assert shown(made) == [(0, 8), (2, 8)]


def test_a_loop_of_a_picture(pictures: tuple[Path, Path]) -> None:
    assert masks(plan(Animate(image=pictures[0]), loop=True)) == ["#", "~.......="]


def test_extending_forwards(clip: Path) -> None:
    made = plan(Extend(clip=clip, keep=3), segments=2)
    assert masks(made) == ["###.....", "~~......"]
    assert [cell and cell.frame for cell in lay(made.windows[0].references, made.lengths, 8)][:3] == [7, 8, 9]
    assert made.before is not None
    assert (made.before.frames, made.before.blend, made.after) == (10, 3, None)


def test_extending_backwards(clip: Path) -> None:
    made = plan(Extend(clip=clip, keep=3, backwards=True))
    assert masks(made) == [".....###"]
    assert [cell and cell.frame for cell in lay(made.windows[0].references, made.lengths, 8)][5:] == [0, 1, 2]
    assert made.after is not None
    assert (made.after.frames, made.after.blend, made.before) == (10, 3, None)


def test_a_clip_that_loops_comes_back_to_its_beginning(clip: Path) -> None:
    made = plan(Extend(clip=clip, keep=2), loop=True)
    assert (masks(made), shown(made), made.after) == (["##....##"], [(0, 6)], None)


def test_connecting_clips_and_pictures(clip: Path, pictures: tuple[Path, Path]) -> None:
    clips = plan(Connect(start=clip, end=clip, keep=2))
    assert masks(clips) == ["##....##"]
    assert clips.before is not None
    assert clips.after is not None
    dark, light = pictures
    still = plan(Connect(start=dark, end=light))
    assert (masks(still), still.before, still.after) == (["#......#"], None, None)
    assert masks(plan(Connect(start=dark, end=clip))) == ["#.....##"]


def test_an_edit_covers_the_clip_in_windows(clip: Path) -> None:
    assert masks(plan(Edit(clip=clip), frames=16)) == ["++++++++++"]
    made = plan(Edit(clip=clip), frames=6)
    assert masks(made) == ["++++++", "~~++++"]
    assert sum(stop - start for start, stop in shown(made)) == 10
    made = plan(Edit(clip=clip), frames=7)
    assert (masks(made), shown(made)) == (["+++++++", "~~~~+++"], [(0, 7), (4, 7)])


def test_chosen_frames_are_filled(clip: Path) -> None:
    made = plan(Edit(clip=clip, strength=1.0, fill=((2, 4), (7, 7))), frames=16)
    assert masks(made) == ["##...##.##"]
    in_windows = plan(Edit(clip=clip, strength=0.5, fill=((5, 7),)), frames=6, overlap=2)
    assert masks(in_windows) == ["#####+", "~~++##"]
    with pytest.raises(ConfigError, match="frames 0 to 9 at this rate, not 5-10"):
        plan(Edit(clip=clip, fill=((5, 10),)))


def test_interpolation_goes_from_key_frame_to_key_frame(clip: Path, pictures: tuple[Path, Path]) -> None:
    made = plan(Interpolate(sources=(clip,), factor=3), frames=10, fps=18.0)
    assert masks(made) == ["#..#..#..#"] * 3
    assert shown(made) == [(0, 10), (1, 10), (1, 10)]
    keys = [cell.frame for cell in lay(made.windows[1].references, made.lengths, 10) if cell]
    assert keys == [9, 12, 15, 18]
    still = plan(Interpolate(sources=(*pictures, pictures[0]), factor=4), frames=4)
    assert (masks(still), shown(still)) == (["#...#", "#...#"], [(0, 5), (1, 5)])


def test_whole_latent_frames_are_kept(clip: Path) -> None:
    """Four frames a latent frame, the first of which holds one: 1, 5 or 9 frames are whole."""
    for keep, kept in ((1, 1), (3, 5), (5, 5), (10, 9), (None, 5)):
        made = plan(Extend(clip=clip, keep=keep), grid=TimeGrid(4), frames=12)
        assert masks(made) == ["#" * kept + "." * (12 - kept)]
        first = lay(made.windows[0].references, made.lengths, 12)[0]
        assert first is not None
        assert made.before is not None
        assert (first.frame, made.before.blend) == (10 - kept, kept)


def test_packed_frames_go_forwards(clip: Path, pictures: tuple[Path, Path]) -> None:
    packed = TimeGrid(4)
    assert shown(plan(FromText(), grid=packed, frames=10)) == [(0, 10)]
    assert masks(plan(Animate(image=pictures[0]), grid=packed)) == ["#......."]
    assert masks(plan(Edit(clip=clip, fill=((2, 4),)), grid=packed, frames=10)) == ["##+++#####"]


def test_packed_frames_are_taken_over_in_whole_latent_frames(clip: Path) -> None:
    packed = TimeGrid(4)
    for overlap, kept in ((None, 5), (1, 1), (2, 5), (5, 5), (6, 9)):
        made = plan(FromText(), segments=3, grid=packed, frames=13, overlap=overlap)
        assert [window.overlap for window in made.windows] == [0, kept, kept]
        assert shown(made) == [(0, 13), (kept, 13), (kept, 13)]
    edited = plan(Edit(clip=clip, strength=0.5), grid=packed, frames=5, overlap=1)  # ten frames
    assert [(window.frames, window.overlap) for window in edited.windows] == [(5, 0), (5, 1), (2, 1)]
    assert sum(stop - first for first, stop in shown(edited)) == 10
    with pytest.raises(ConfigError, match="5 frames taken over leave nothing of a window of 5"):
        plan(FromText(), segments=2, grid=packed, frames=5, overlap=2)


@pytest.mark.parametrize(
    ("task", "values", "words"),
    [
        (
            FromText(references=(Reference(path=Path("CLIP"), frames=1, segment=1),)),
            {"segments": 2},
            "a reference in a later segment needs",
        ),
        (FromText(), {"loop": True}, "a loop needs"),
        (Extend(clip=Path("CLIP"), backwards=True), {}, "extending backwards needs"),
        (Connect(start=Path("CLIP"), end=Path("CLIP")), {}, "connecting needs"),
        (Interpolate(sources=(Path("CLIP"),)), {}, "interpolation needs"),
        (
            FromText(references=(Reference(path=Path("CLIP"), at=4, frames=2),)),
            {},
            "frame 4 is given but not",
        ),
        (
            FromText(
                references=(
                    Reference(path=Path("CLIP"), frames=5),
                    Reference(path=Path("CLIP"), at=7, frames=1),
                )
            ),
            {},
            "frame 7 is given but not",
        ),
    ],
)
def test_packed_frames_refuse_what_would_be_wrong(
    task: Task, values: dict[str, object], words: str, clip: Path
) -> None:
    with pytest.raises(ConfigError, match=f"{words}.* an autoencoder of one frame a latent frame.* packs 4"):
        plan(there(task, clip), grid=TimeGrid(4), **values)


@pytest.mark.parametrize(
    ("task", "values", "words"),
    [
        (Extend(clip=Path("nowhere.mp4")), {}, r"nowhere\.mp4 does not exist"),
        (Extend(clip=Path("CLIP"), keep=11), {"frames": 16}, "has 10 frames at 6 per second"),
        (Extend(clip=Path("CLIP"), keep=0), {}, "keep must be at least 1"),
        (Extend(clip=Path("CLIP"), keep=8), {}, "keeping 8 of 8 frames leaves none"),
        (Extend(clip=Path("CLIP"), backwards=True), {"segments": 2}, "backwards is one segment"),
        (Extend(clip=Path("CLIP"), backwards=True), {"loop": True}, "a loop goes forwards"),
        (Connect(start=Path("CLIP"), end=Path("CLIP"), keep=4), {}, "8 frames leave none between"),
        (Edit(clip=Path("CLIP")), {"segments": 2}, "as long as its clip"),
        (Interpolate(sources=(Path("CLIP"),)), {"loop": True}, "leave out --loop"),
        (FromText(), {"segments": 2, "overlap": 8}, "8 frames taken over leave nothing"),
        (FromText(), {"frames": 1, "loop": True}, "one picture cannot loop"),
    ],
)
def test_what_does_not_go_together_is_said(
    task: Task, values: dict[str, object], words: str, clip: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        plan(there(task, clip), **values)


def test_one_picture_is_no_interpolation(pictures: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match=r"dark\.png has one frame"):
        plan(Interpolate(sources=pictures[:1]))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Edit(clip=Path("a"), strength=0.0), "strength is above 0"),
        (lambda: Edit(clip=Path("a"), fill=((4, 2),)), "the span 4-2 is none"),
        (lambda: Interpolate(sources=(Path("a"),), factor=1), "factor must be at least 2"),
        (lambda: Interpolate(sources=()), "nothing to interpolate"),
    ],
)
def test_a_task_refuses_nonsense(make: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()  # type: ignore[operator]


def test_files_are_named_once(clip: Path) -> None:
    assert files_of(Connect(start=clip, end=clip)) == (clip,)
