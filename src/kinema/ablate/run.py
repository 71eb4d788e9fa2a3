"""An ablation from a dataset to a recommendation; every stage goes on where it was stopped.

OUT/
  study.json        what was asked for; another config or dataset is refused
  start/            the model that every arm starts from: the same weights and encoders
  references/       a dataset view of the held-out clips
  cost.json         the measured rates
  arms/<name>/      view/, run/, samples/, evaluation/, result.json
  arena/            arena.json and votes.jsonl, for kinema studio
  report.html, report.md, report.json
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from kinema.ablate.plan import Ablation, plan_ablation
from kinema.ablate.report import Facts, write_report
from kinema.ablate.verdict import Verdict, judge_study
from kinema.ablate.voting import Voters, is_simulated, metric_scores, simulate
from kinema.ablate.work import run_jobs
from kinema.errors import KinemaError
from kinema.evaluate.arena import Arena, create_arena
from kinema.evaluate.preference import PreferenceConfig
from kinema.evaluate.votes import Vote, scored_votes
from kinema.files import exclusive
from kinema.progress import Progress, Silent

__all__ = ["plan_ablation", "run_ablation"]


def run_ablation(plan: Ablation, progress: Progress | None = None) -> dict[str, Any]:
    """Train, generate, judge, rank, report; plain JSON data. Raises `KinemaError` when a model failed."""
    began, progress = time.monotonic(), progress or Silent()
    with exclusive(plan.out):
        results = _made(plan, progress)
        arena = _arena(plan)
        votes = _votes(plan, arena, progress)
        verdicts = tuple(_verdict(study, plan, votes) for study in plan.design.studies)
        facts = Facts(
            plan=plan, results=results, verdicts=verdicts, votes=votes, seconds=time.monotonic() - began
        )
        return write_report(facts, arena)


def _made(plan: Ablation, progress: Progress) -> dict[str, dict[str, Any]]:
    results, failed = {}, {}
    for job, outcome in run_jobs(plan.jobs, plan.devices, progress):
        if isinstance(outcome, KinemaError):
            failed[job.name] = str(outcome)
        else:
            results[job.name] = outcome
    if failed:
        name, why = next(iter(failed.items()))
        raise KinemaError(
            f"{len(failed)} of {len(plan.jobs)} models could not be made; {name}: {why} (the others are "
            "kept: run the same command again)"
        )
    return results


def _arena(plan: Ablation) -> Arena:
    samples = {job.name: job.samples for job in plan.jobs}
    studies = [list(names) for names in plan.design.studies.values()]
    return create_arena(plan.out / "arena", f"Ablation of {plan.dataset.name}", samples, groups=studies)


def _votes(plan: Ablation, arena: Arena, progress: Progress) -> list[Vote]:
    """People's votes when there are any; else the simulated ones, where they are asked for."""
    votes, _ = scored_votes(arena.votes.read())
    people = [vote for vote in votes if not is_simulated(vote)]
    if people or plan.config.voter == "people":
        return people
    progress.stage("simulated votes")
    scores = metric_scores(arena, plan.references, plan.config.evaluate)
    voters = Voters(count=plan.config.simulated_voters, seed=plan.config.seed)
    simulate(arena, scores, voters)
    return [vote for vote in arena.votes.read() if is_simulated(vote)]


def _verdict(study: str, plan: Ablation, votes: Sequence[Vote]) -> Verdict:
    arms = [plan.design.arms[name] for name in plan.design.studies[study]]
    config = PreferenceConfig(bootstraps=plan.config.resamples, elo_orders=100, seed=plan.config.seed)
    return judge_study(study, arms, votes, config)
