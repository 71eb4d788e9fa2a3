"""report.html: one page that shows a dataset to someone who has never seen this program.

It says nothing of when or where it was made, so that equal datasets have equal pages.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float

from kinema.curate.clip_table import SCORE_COLUMNS, flags, floats, read_columns, scores_in
from kinema.curate.contact_sheets import Rows, Thumbnails, card, row, sheets
from kinema.curate.filter_words import in_words
from kinema.curate.filters import Check, Scores, checks
from kinema.curate.refilter import filters_of
from kinema.manifest import Source, read_sources
from kinema.page.charts import Line, histogram, number, shares
from kinema.page.document import header, paragraph, reasons, section, table, write_page

_MOST_PICTURE_BYTES = 6 << 20
_COLUMNS = (
    *SCORE_COLUMNS,
    *(
        "clip_id",
        "source_path",
        "start_s",
        "cut_kind_start",
        "cut_kind_end",
        "kept",
        "drop_reasons",
        "captions",
    ),
    *("camera_confidence", "letterbox"),
)
_ABOUT = {
    "duration_s": "Length of a clip in seconds.",
    "side": "Shorter side of the picture in pixels.",
    "aspect_ratio": "Height divided by width: 0.56 is 16:9, 1.78 is a phone held upright.",
    "fps": "Frames a second.",
    "motion_score": "How much moves: pixels of optical flow in half a second, on a picture 160 pixels wide.",
    "text_area": "Share of the picture that is covered by text.",
    "aesthetic_score": "How much people like such pictures, as a learned model guesses; higher is nicer.",
    "technical_quality": "Sharpness, exposure, blocking and noise in one number; higher is cleaner.",
    "text_match": "How well the caption fits the picture, by a model that compares the two.",
    "brightness": "Mean brightness: 0 is black, 1 is white.",
    "black_frames": "Share of the frames that are black.",
    "frozen_frames": "Share of the frames that repeat the one before.",
    "letterbox": "Share of the picture that is black bars.",
    "camera_confidence": "How sure the kind of camera motion is.",
}
_KINDS = {
    "start": "the file's first frame",
    "hard": "a hard cut",
    "fade": "a fade",
    "dissolve": "a dissolve",
    "length": "a split of a long shot",
}
_GEOMETRY = ("duration_s", "side", "aspect_ratio", "fps")


@dataclass(frozen=True)
class Dataset:
    """Everything that the page says."""

    sources: list[Source]
    clips: pa.Table
    rows: Rows
    scores: Scores
    filters: list[Check]
    thumbnails: Thumbnails
    hours: Float[np.ndarray, " n"]


def write_report(folder: Path, target: Path) -> dict[str, Any]:
    """Write the page and return what it says in short. Raises `DatasetError` for no dataset folder."""
    dataset = _read(folder)
    sections = [
        _header(dataset),
        section("From footage to dataset", _funnel(dataset)),
        section(
            "What the clips are like",
            paragraph(_CHARTS) + _histograms(dataset, _GEOMETRY) + _kinds(dataset),
        ),
        section("Scores", _scores(dataset)),
        *_contact_sheets(dataset),
        section("Captions", _captions(dataset)),
        section("Sources", _sources(dataset.sources)),
    ]
    write_page(target, "Dataset report", [dataset.thumbnails.style(), *sections])
    kept = dataset.rows.kept
    return {
        "page": str(target),
        "sources": len(dataset.sources),
        "clips": len(kept),
        "kept": int(kept.sum()),
        "hours_kept": round(float(dataset.hours[kept].sum()), 4),
        "pictures_left_out": dataset.thumbnails.left_out,
    }


def refresh_report(folder: Path) -> None:
    """The page in the dataset folder, made anew."""
    write_report(folder, folder / "report.html")


def _read(folder: Path) -> Dataset:
    clips = read_columns(folder, _COLUMNS)
    scores = scores_in(clips)
    filters = checks(scores, filters_of(folder))
    words = {check.reason: in_words(check) for check in filters}
    rows = Rows(
        clips["clip_id"].to_pylist(),
        [path.rpartition("/")[2] for path in clips["source_path"].to_pylist()],
        floats(clips, "start_s"),
        flags(clips, "kept"),
        [[words.get(reason, reason) for reason in why or ()] for why in clips["drop_reasons"].to_pylist()],
    )
    return Dataset(
        read_sources(folder),
        clips,
        rows,
        scores,
        filters,
        Thumbnails(folder, _MOST_PICTURE_BYTES),
        floats(clips, "duration_s") / 3600,
    )


def _header(dataset: Dataset) -> str:
    kept, hours = dataset.rows.kept, dataset.hours
    failed = sum(source.status not in {"done", "duplicate"} for source in dataset.sources)
    facts = [
        ("footage kept", f"{_duration(hours[kept].sum())} of {_duration(hours.sum())}"),
        ("clips kept", f"{kept.sum()} of {len(kept)}"),
        ("source files", str(len(dataset.sources))),
        ("could not be read", str(failed)),
    ]
    return header("Dataset report", _LEAD, facts)


def _funnel(dataset: Dataset) -> str:
    """What is left after one filter after another, then each filter by itself."""
    hours, left = dataset.hours, np.ones(len(dataset.hours), bool)
    whole = sum(source.duration_s for source in dataset.sources if source.status == "done") / 3600
    steps = [("all footage that could be read", 1.0, _duration(whole))] if whole else []
    steps.append(("in clips, without transitions", _share(hours.sum(), whole), _left(dataset, left)))
    for check in dataset.filters:
        if check.broken.any():
            left &= ~check.broken
            steps.append(
                (f"without: {in_words(check)}", _share(hours[left].sum(), whole), _left(dataset, left))
            )
    return paragraph(_FUNNEL) + shares(steps) + _drops(dataset)


def _drops(dataset: Dataset) -> str:
    alone = Counter(why[0] for why in dataset.rows.reasons if len(why) == 1)
    rows = [
        (
            in_words(check),
            str(int(check.broken.sum())),
            str(alone[in_words(check)]),
            _duration(dataset.hours[check.broken].sum()),
            check.setting,
        )
        for check in dataset.filters
    ]
    names = ("dropped", "clips", "by this alone", "footage", "set by")
    return table(names, rows) if rows else paragraph("No filter is set.")


def _histograms(dataset: Dataset, names: Sequence[str]) -> str:
    charts = "".join(_histogram(dataset, name) for name in names)
    return f'<div class="charts">{charts}</div>' if charts else ""


def _histogram(dataset: Dataset, name: str) -> str:
    values, kept = floats(dataset.clips, name), dataset.rows.kept
    if name in ("duration_s", "fps"):
        values = np.where(values == 0, np.nan, values)
    known = ~np.isnan(values)
    lines = [
        Line(check.threshold, f"{'below' if check.below else 'above'} {number(check.threshold)}: out")
        for check in dataset.filters
        if check.score == name and check.threshold is not None
    ]
    title = name.removesuffix("_s").replace("_", " ")
    chart = histogram(title, values[known & kept].tolist(), values[known & ~kept].tolist(), lines)
    return f"<div>{chart}<p>{html.escape(_ABOUT[name])}</p></div>" if chart else ""


def _kinds(dataset: Dataset) -> str:
    """Counts of what is a word and not a number."""
    found = ""
    for name, title in (("cut_kind_start", "What a clip begins with"), ("camera_motion", "Camera motion")):
        counts = Counter(word for word in dataset.clips[name].to_pylist() if word)
        if counts:
            bars = [
                (_KINDS.get(word, word.replace("_", " ")), count / len(dataset.hours), str(count))
                for word, count in sorted(counts.items(), key=_most)
            ]
            found += f"<h3>{title}</h3>{shares(bars)}"
    return found


def _scores(dataset: Dataset) -> str:
    names = [name for name in _ABOUT if name not in _GEOMETRY]
    measured = [name for name in names if dataset.clips[name].null_count < dataset.clips.num_rows]
    absent = [name for name in names if name not in measured]
    named = ", ".join(name.replace("_", " ") for name in absent)
    told = f"Not measured in this dataset: {named}." if absent else ""
    return _histograms(dataset, measured) + (paragraph(told) if told else "")


def _contact_sheets(dataset: Dataset) -> Iterator[str]:
    body = ""
    for check in dataset.filters:
        if check.threshold is None:
            continue
        values = dataset.scores.values[check.score]
        parts = sheets(check, values, dataset.rows, dataset.thumbnails)
        if parts and check.broken.any():
            body += f"<h3>{html.escape(in_words(check).capitalize())}</h3>"
            body += "".join(f"<h4>{title}</h4>{sheet}" for title, sheet in parts)
    body += _near_duplicates(dataset)
    if body:
        yield section("What each filter dropped", paragraph(_SHEETS) + body)


def _near_duplicates(dataset: Dataset) -> str:
    place = {name: index for index, name in enumerate(dataset.rows.clip_ids)}
    originals = dataset.clips["near_duplicate_of"].to_pylist()
    pairs = [(index, place[of]) for index, of in enumerate(originals) if of in place][:3]
    if not pairs:
        return ""
    indices = [index for pair in pairs for index in pair]
    labels = ["repeats", "the one kept"] * len(pairs)
    return "<h3>Near duplicate</h3>" + row(indices, dataset.rows, dataset.thumbnails, labels)


def _captions(dataset: Dataset) -> str:
    lists = dataset.clips["captions"].combine_chunks()
    flat = pc.list_flatten(lists)
    if not len(flat):
        return paragraph("No clip has a caption. Give some with files beside the footage, or: kinema caption")
    owner = pc.list_parent_indices(lists).to_numpy()
    words = pc.list_value_length(pc.utf8_split_whitespace(pc.utf8_trim_whitespace(flat.field("text"))))
    kept = dataset.rows.kept[owner]
    lengths = np.asarray(words.to_numpy(zero_copy_only=False), np.float64)
    kinds = Counter(zip(flat.field("kind").to_pylist(), flat.field("model").to_pylist(), strict=True))
    rows = [(kind, model or "", str(count)) for (kind, model), count in sorted(kinds.items(), key=_most)]
    silent = len(dataset.hours) - len(set(owner.tolist()))
    told = (
        f"{silent} of {len(dataset.hours)} clips have no caption." if silent else "Every clip has a caption."
    )
    chart = histogram("words in a caption", lengths[kept].tolist(), lengths[~kept].tolist())
    counts = table(("kind", "model", "captions"), rows)
    charts = f'<div class="charts"><div>{chart}</div><div>{counts}</div></div>'
    return paragraph(told) + charts + _examples(dataset)


def _examples(dataset: Dataset, count: int = 6) -> str:
    """Kept clips spread evenly over the dataset, with all that is said of them."""
    counts = pc.fill_null(pc.list_value_length(dataset.clips["captions"]), 0).to_numpy()
    candidates = np.flatnonzero(dataset.rows.kept & (counts > 0)).tolist()
    chosen = [candidates[place * len(candidates) // count] for place in range(min(count, len(candidates)))]
    cards = (
        f"<li>{card(index, dataset.rows, dataset.thumbnails, '')}<div>"
        + "".join(
            f"<p><small>{html.escape(' · '.join(filter(None, (item['kind'], item['model']))))}</small><br>"
            f"{html.escape(item['text'])}</p>"
            for item in dataset.clips["captions"][int(index)].as_py()
        )
        + "</div></li>"
        for index in dict.fromkeys(int(index) for index in chosen)
    )
    return f'<ul class="examples">{"".join(cards)}</ul>'


def _sources(sources: list[Source]) -> str:
    failed = {row.path: row.reason for row in sources if row.status not in {"done", "duplicate"}}
    same = {row.path: row.reason for row in sources if row.status == "duplicate"}
    done = len(sources) - len(failed) - len(same)
    body = paragraph(f"{done} of {len(sources)} files were read from their first to their last frame.")
    if failed:
        body += "<h3>Could not be read</h3>" + reasons(failed)
    return body + ("<h3>The same file again</h3>" + reasons(same) if same else "")


def _share(part: float, whole: float) -> float:
    return min(1.0, float(part) / whole) if whole else 0.0


def _left(dataset: Dataset, left: np.ndarray) -> str:
    return f"{_duration(dataset.hours[left].sum())} · {int(left.sum())} clips"


def _most(item: tuple[Any, int]) -> tuple[int, str]:
    return -item[1], str(item[0])


def _duration(hours: float) -> str:
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{60 * hours:.1f} min" if hours >= 1 / 60 else f"{3600 * hours:.0f} s"


_LEAD = (
    "Video files were cut into clips at every change of scene. Each clip was measured, and the filters below "
    "decided which clips a model should learn from. Nothing was deleted: a dropped clip keeps its row and "
    "the reason, and other filters can bring it back."
)
_FUNNEL = (
    "What is left of the footage after each filter in turn. A clip that "
    "several filters reject is counted at the first. The table counts every filter by itself; to move one, "
    "give kinema filter what stands under 'set by' with another number, as in: kinema filter DATASET --set "
    "motion_score.min=0.2"
)
_CHARTS = (
    "Every chart counts clips: the taller a bar, the more clips have that value; the number at the left is "
    "the count of the tallest. Filled: kept. Hollow: dropped, by whichever filter. A dashed line is where a "
    "filter cuts."
)
_SHEETS = (
    "For each filter that dropped something: the clips furthest on the wrong side of it, those next to the "
    "line, and those furthest on the right side. If a borderline clip looks good, move the line: kinema "
    "filter does so in seconds."
)
