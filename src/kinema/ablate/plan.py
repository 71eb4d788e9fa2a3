"""An ablation before it runs: its folder, what each model is made of, and what that will cost."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kinema.ablate.arms import ALL, Arm, Design, design
from kinema.ablate.config import AblationConfig
from kinema.ablate.cost import Cost, Rates, cost_of, measure
from kinema.ablate.work import Job, devices_of
from kinema.checkpoint import from_record, read_json, write_json
from kinema.dataset.store import dataset_version
from kinema.dataset.view import write_view
from kinema.errors import ConfigError
from kinema.evaluate.metrics import EvaluateConfig
from kinema.files import writable_folder
from kinema.model import save_model
from kinema.progress import Progress, Silent
from kinema.train.config import TrainConfig
from kinema.train.parallel import join
from kinema.train.setup import prepare

_FREE = ("voter", "simulated_voters", "devices", "resamples")
"""Settings that a later run on the same folder may change."""


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """An ablation that is ready to run: what it makes, and what that will cost."""

    config: AblationConfig
    dataset: Path
    out: Path
    design: Design
    jobs: tuple[Job, ...]
    prompts: tuple[str, ...]
    references: Path
    devices: tuple[str, ...]
    cost: Cost

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "dataset": str(self.dataset),
            "studies": {name: list(arms) for name, arms in self.design.studies.items()},
            "clips": {name: len(arm.clips) for name, arm in self.design.arms.items()},
            "held_out": len(self.design.held_out),
            "prompts": list(self.prompts),
            "left_out": self.design.left_out,
            "cost": self.cost.as_dict(),
        }


def plan_ablation(
    config: AblationConfig, dataset: Path, out: Path, progress: Progress | None = None
) -> Ablation:
    """Decide everything, and measure what it will cost. Raises before any time is spent on a wrong config."""
    progress = progress or Silent()
    drawn = design(dataset, config)
    writable_folder(out)
    _claim(config, drawn, dataset, out)
    references = config.references or out / "references"
    if config.references is None and not (references / "dataset.toml").is_file():
        write_view(dataset, references, drawn.held_out)
    base = out / "arms" / ALL / "view"
    for arm in drawn.arms.values():
        if not (out / "arms" / arm.name / "view" / "dataset.toml").is_file():
            write_view(dataset, out / "arms" / arm.name / "view", arm.clips)
    if not (base / "dataset.toml").is_file():
        raise ConfigError(f"{base} is missing; remove {out} and begin again")
    start = _start(config.train, base, out, progress)
    prompts = prompts_of(config, drawn)
    common = _Common(prompts=prompts, references=references, evaluate=config.evaluate, out=out, start=start)
    jobs = tuple(_job(arm, common) for arm in drawn.arms.values())
    devices = devices_of(config.devices)
    rates = _rates(out, base, jobs[0], progress)
    return Ablation(
        config=config,
        dataset=dataset,
        out=out,
        design=drawn,
        jobs=jobs,
        prompts=prompts,
        references=references,
        devices=devices,
        cost=cost_of(jobs, len(drawn.held_out), rates, devices),
    )


def prompts_of(config: AblationConfig, drawn: Design) -> tuple[str, ...]:
    """Those that are given, or different captions of held-out clips."""
    captions = dict.fromkeys(clip.captions[0].text for clip in drawn.held_out)
    return config.prompts or tuple(captions)[: config.prompt_count]


def _claim(config: AblationConfig, drawn: Design, dataset: Path, out: Path) -> None:
    """A folder is gone on with only by the same study of the same clips."""
    asked = {name: value for name, value in _plain(config).items() if name not in _FREE}
    clips = [clip for arm in drawn.arms.values() for clip in arm.clips] + list(drawn.held_out)
    record = {"config": asked, "dataset": str(dataset.resolve()), "clips": dataset_version(clips)}
    path = out / "study.json"
    if not path.is_file():
        write_json(path, record)
        return
    before = read_json(path)
    differing = [name for name in record if before.get(name) != record[name]]
    if differing:
        raise ConfigError(
            f"{out} holds an ablation with another {differing[0]}; give another folder with --out, or set "
            "the config back"
        )


def _plain(config: AblationConfig) -> dict[str, Any]:
    import json

    plain: dict[str, Any] = json.loads(json.dumps(asdict(config), default=str))
    return plain


def _start(train: TrainConfig, view: Path, out: Path, progress: Progress) -> Path:
    """A model at step 0, with encoders made of all clips: what every arm starts from."""
    if train.start_from is not None:
        return train.start_from
    folder, partial = out / "start", out / "start.partial"
    if not folder.is_dir():
        progress.stage("starting point")
        shutil.rmtree(partial, ignore_errors=True)
        with join(train.parallel) as world:
            save_model(partial, prepare(train, view, partial, False, world).model)
        partial.rename(folder)
    return folder


@dataclass(frozen=True, kw_only=True)
class _Common:
    """What all arms share."""

    prompts: tuple[str, ...]
    references: Path
    evaluate: EvaluateConfig
    out: Path
    start: Path


def _job(arm: Arm, common: _Common) -> Job:
    folder = common.out / "arms" / arm.name
    return Job(
        name=arm.name,
        folder=folder,
        view=folder / "view",
        train=replace(arm.train, start_from=common.start),
        images=None if arm.images is None else replace(arm.images, start_from=common.start),
        prompts=common.prompts,
        references=common.references,
        evaluate=common.evaluate,
    )


def _rates(out: Path, view: Path, job: Job, progress: Progress) -> Rates:
    path = out / "cost.json"
    if not path.is_file():
        progress.stage("measure the cost")
        rates = measure(out / "cost", view, job, progress)
        write_json(path, asdict(rates))
    return from_record(Rates, read_json(path), str(path))
