"""Decide a chain of runs, and train them one after the other; what is finished is not trained again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kinema.chain.config import ChainConfig, ChainRun
from kinema.checkpoint import read_json, write_json
from kinema.dataset.plan import make_plan
from kinema.dataset.view import write_view
from kinema.errors import ConfigError, DatasetError
from kinema.files import writable_folder
from kinema.manifest import Clip, read_clips
from kinema.progress import Progress, Silent
from kinema.train.config import TrainConfig
from kinema.train.loop import train
from kinema.train.stages import stages

RESULT = "result.json"
_RECORD = "chain.json"
Recipe = Callable[[ChainRun], TrainConfig]


@dataclass(frozen=True, kw_only=True)
class Link:
    """One run, decided: `folder` gets view/ (where clips are chosen), run/ and, at the end, result.json."""

    name: str
    folder: Path
    dataset: Path
    train: TrainConfig
    clips: tuple[Clip, ...] | None = None
    turn_portrait: bool = False

    @property
    def steps(self) -> int:
        """Of all its stages."""
        return stages(self.train)[-1].end


@dataclass(frozen=True, kw_only=True)
class Chain:
    """What will be trained, in order, and what is left out and why."""

    out: Path
    links: tuple[Link, ...]
    left_out: dict[str, str]
    record: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        runs = [
            {
                "name": link.name,
                "dataset": str(link.dataset),
                "clips": None if link.clips is None else len(link.clips),
                "start_from": None if link.train.start_from is None else str(link.train.start_from),
                "steps": link.steps,
            }
            for link in self.links
        ]
        return {"out": str(self.out), "runs": runs, "left_out": self.left_out}


def plan_chain(  # noqa: PLR0913 - a chain, its data, and how much of it
    config: ChainConfig,
    recipe: Recipe,
    dataset: Path,
    out: Path,
    *,
    others: Mapping[str, Path] | None = None,
    share: float = 1.0,
) -> Chain:
    """`others` are datasets by the names that the chain has for them; `share` is that of all steps.

    A run without its dataset or without clips is left out with the reason, and so is what starts from it.
    """
    others = others or {}
    if not 0 < share <= 1:
        raise ConfigError(f"share must be in (0, 1], got {share:g}")
    if unknown := [name for name in others if name not in config.datasets]:
        known = ", ".join(config.datasets) or "none"
        raise ConfigError(f"the chain has no dataset {unknown[0]!r}; it names: {known}")
    links, left_out = dict[str, Link](), dict[str, str]()
    for run in config.run:
        if run.start_from in left_out:
            left_out[run.name] = f"it starts from {run.start_from}, which is left out"
        elif run.dataset and run.dataset not in others:
            left_out[run.name] = f"no dataset {run.dataset!r}; name it: --with {run.dataset}=FOLDER"
        else:
            source = others[run.dataset] if run.dataset else dataset
            clips = _chosen(run, source)
            settings = shortened(recipe(run), share)
            if why := _useless(run, settings, source, clips):
                left_out[run.name] = why
                continue
            if run.start_from:
                settings = replace(settings, start_from=_model(out / run.start_from))
            folder = out / run.name
            links[run.name] = Link(
                name=run.name,
                folder=folder,
                dataset=source,
                train=settings,
                clips=clips,
                turn_portrait=run.turn_portrait,
            )
    if not links:
        raise ConfigError(f"nothing of the chain can be trained: {next(iter(left_out.values()))}")
    record = {"chain": _plain(config), "dataset": str(dataset.resolve()), "share": share}
    return Chain(out=out, links=tuple(links.values()), left_out=left_out, record=record)


def run_chain(chain: Chain, progress: Progress | None = None) -> dict[str, Any]:
    """Train what is not finished; the summary has a row for each run."""
    progress, began = progress or Silent(), time.monotonic()
    writable_folder(chain.out)
    _claim(chain)
    rows = []
    for link in chain.links:
        if not (link.folder / RESULT).is_file():
            write_json(link.folder / RESULT, _trained(link, progress))
        rows.append({"name": link.name, **read_json(link.folder / RESULT)})
    seconds = round(time.monotonic() - began, 1)
    return {"out": str(chain.out), "runs": rows, "left_out": chain.left_out, "seconds": seconds}


def shortened(config: TrainConfig, share: float) -> TrainConfig:
    """The same run with a share of its steps, in each stage; at least one."""
    if share == 1:
        return config
    steps = max(1, round(share * config.steps))
    chain = tuple(replace(stage, steps=max(1, round(share * stage.steps))) for stage in config.stage)
    return replace(config, steps=steps, stage=chain)


def _trained(link: Link, progress: Progress) -> dict[str, Any]:
    """Train, or go on; a run that was killed before its first record is begun again."""
    dataset, run = link.dataset, _model(link.folder)
    if link.clips is not None:
        dataset = link.folder / "view"
        if not (dataset / "dataset.toml").is_file():
            write_view(link.dataset, dataset, link.clips, turn_portrait=link.turn_portrait)
    begun = (run / "resolved.toml").is_file()
    if run.is_dir() and not begun:
        shutil.rmtree(run)
    progress.line(f"run {link.name}: {link.steps} steps")
    found = train(link.train, dataset, run, begun, progress)
    return {
        "folder": str(run),
        "steps": link.steps,
        "last_loss": found["last_loss"],
        "seconds": found["seconds"],
    }


def _model(folder: Path) -> Path:
    return folder / "run"


def _chosen(run: ChainRun, dataset: Path) -> tuple[Clip, ...] | None:
    if not run.camera_motion and not run.turn_portrait:
        return None
    clips = (clip for clip in read_clips(dataset) if clip.kept)
    return tuple(clip for clip in clips if not run.camera_motion or clip.camera_motion in run.camera_motion)


def _useless(run: ChainRun, settings: TrainConfig, dataset: Path, clips: tuple[Clip, ...] | None) -> str:
    """Why no stage of a run could train, found before any time is spent; "" where all can."""
    if clips is not None and not clips:
        labels = f" labelled {', '.join(run.camera_motion)}" if run.camera_motion else ""
        return f"{dataset} has no kept clip{labels}"
    with TemporaryDirectory() as folder:
        seen = dataset
        if clips is not None:
            seen = Path(folder)
            write_view(dataset, seen, clips, turn_portrait=run.turn_portrait)
        try:
            for stage in stages(settings):
                make_plan(seen, stage.config.data)
        except DatasetError as error:
            return str(error).replace(folder, f"the chosen clips of {dataset}")
    return ""


def _plain(config: ChainConfig) -> list[dict[str, Any]]:
    return [{name: _listed(value) for name, value in asdict(run).items()} for run in config.run]


def _listed(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _claim(chain: Chain) -> None:
    """A folder is gone on with only by the same chain of the same dataset."""
    path = chain.out / _RECORD
    if not path.is_file():
        write_json(path, chain.record)
        return
    before = read_json(path)
    differing = [name for name in chain.record if before.get(name) != chain.record[name]]
    if differing:
        raise ConfigError(
            f"{chain.out} holds a chain with another {differing[0]}; give another folder with --out, or set "
            "it back"
        )
