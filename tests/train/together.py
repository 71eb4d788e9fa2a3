"""Training runs in a process that torchrun started: `together.py CONFIG DATASET (OUT RESUME KEY=VALUE,..)...`

All runs of one call share one process group, for starting processes takes longer than the runs. Where RESUME
is "blocks", the weights are gathered block by block, as those of a large network are.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch.distributed as dist

from kinema.config import load_config
from kinema.train import parallel
from kinema.train.config import TrainConfig
from kinema.train.loop import train


def main(arguments: list[str]) -> None:
    config, dataset, *runs = arguments
    dist.init_process_group("gloo")
    whole = parallel._GATHERED_AT_ONCE
    for out, resume, sets in zip(runs[::3], runs[1::3], runs[2::3], strict=True):
        settings = load_config(TrainConfig, Path(config), tuple(filter(None, sets.split("|"))))
        parallel._GATHERED_AT_ONCE = 0 if resume == "blocks" else whole
        train(settings, Path(dataset), Path(out), resume=resume == "resume")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1:])
