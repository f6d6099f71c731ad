"""Which of the benchmark's networks train, and with which initialisation: fills results/networks.jsonl, resumable.

python benchmarks/networks_train.py verdict            # their own weights: what verdicts are judged by
python benchmarks/networks_train.py repair             # own, Xavier, Kaiming, orthogonal, LSUV, depthscale
… --seeds 0,1,2 --init LSUV --only tanh
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import torch
from networks import REPAIR, VERDICT, Network
from protocol import BUDGETS, Prepare, Results, fill
from rivals import RIVALS
from torch import nn

RESULTS = Path(__file__).parent / "results" / "networks.jsonl"


def depthscale(module: nn.Module, network: Network, seed: int) -> None:
    from protocol import digits, shaped

    import depthscale as ds

    ds.repair(module, shaped(digits()[0], network.reads)[:64], seed=seed, force=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("which", choices=("verdict", "repair"))
    parser.add_argument("--init", default=None, help="one initialisation; by default all")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--only", default="", help="networks whose name contains one of a|b|c, in this order")
    parser.add_argument("--steps", type=int, default=BUDGETS[-1], help="the longest budget")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument(
        "--minutes", type=float, help="stop at the next network after this time (exit status 3: all done)"
    )
    given = parser.parse_args()
    start = time.monotonic()
    torch.set_flush_denormal(True)
    warnings.filterwarnings("ignore")
    seeds = [int(s) for s in given.seeds.split(",")]
    every: dict[str, Prepare | None] = {**RIVALS, "depthscale": depthscale}
    if given.init:
        prepares = {given.init: every[given.init]}
    else:
        prepares = {"own": None} if given.which == "verdict" else every
    known = VERDICT if given.which == "verdict" else REPAIR
    parts = given.only.split("|")
    networks = {k: v for part in parts for k, v in known.items() if part in k}
    for line in fill(Results(given.results), networks, prepares, seeds, given.steps):
        print(line, flush=True)
        if given.minutes is not None and time.monotonic() - start > 60 * given.minutes:
            return
    if given.minutes is not None:
        sys.exit(3)


if __name__ == "__main__":
    main()
