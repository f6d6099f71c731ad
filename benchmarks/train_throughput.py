"""How fast the training loop is against a hand-written minimal one: LeNet-5, MNIST-shaped data, batch 128.

The hand-written loop trains a hand-written torch.nn.Sequential, ours the zoo's graph, built; the same optimiser and
constant learning rate, in one process, in turns, so that whatever else the machine does falls on both. Prints the
median images per second of each, the ratio of the medians and the median of the paired ratios, by wall clock and by
processor time.

    python benchmarks/train_throughput.py [--repeats 15] [--steps 100] [--rows 12800]
"""

import argparse
import json
import platform
import statistics
import sys
import time
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from depthscale import zoo
from depthscale.build import build
from depthscale.train import Budget, TrainConfig, Trainer

BATCH = 128
TARGET = 0.90


def lenet5() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)),
    )


class Minimal:
    """What one would write by hand."""

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor, optimiser: str) -> None:
        self.model, self.x, self.y = model, x, y
        if optimiser == "sgd":
            self.optimiser: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        else:
            self.optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def run(self, steps: int) -> None:
        self.model.train()
        done = 0
        while done < steps:
            order = torch.randperm(len(self.x))
            for i in range(0, len(order) - BATCH + 1, BATCH):
                rows = order[i : i + BATCH]
                loss = F.cross_entropy(self.model(self.x[rows]), self.y[rows])
                self.optimiser.zero_grad()
                loss.backward()
                self.optimiser.step()
                done += 1
                if done == steps:
                    break


class Ours:
    """The package's loop, with its records of epochs, divergence watch and snapshots."""

    def __init__(self, model: nn.Module, dataset: SimpleNamespace, optimiser: str) -> None:
        lr = 0.01 if optimiser == "sgd" else 1e-3
        config = TrainConfig(budget=Budget(steps=10**9), batch=BATCH, optimiser=optimiser, lr=lr, schedule="constant")
        self.trainer = Trainer(model, dataset, config.with_(warmup=0.0), progress=False)

    def run(self, steps: int) -> None:
        self.trainer.run(until=Budget(steps=self.trainer.engine.step + steps))


def measure(optimiser: str, repeats: int, steps: int, rows: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    assert sum(p.numel() for p in lenet5().parameters()) == zoo.lenet5().cost().parameters
    x = rng.standard_normal((rows, 1, 28, 28), dtype=np.float32)
    y = rng.integers(0, 10, rows)
    split = SimpleNamespace(x=x, y=y)
    # no validation rows: the hand-written loop has no validation either
    dataset = SimpleNamespace(task="classification", train=split, val=SimpleNamespace(x=x[:0], y=y[:0]))
    loops = {
        "minimal": Minimal(lenet5(), torch.from_numpy(x), torch.from_numpy(y), optimiser),
        "ours": Ours(build(zoo.lenet5(), seed=0), dataset, optimiser),
    }
    wall: dict[str, list[float]] = {"minimal": [], "ours": []}
    cpu: dict[str, list[float]] = {"minimal": [], "ours": []}
    for repeat in range(repeats + 1):
        names = ["minimal", "ours"] if repeat % 2 else ["ours", "minimal"]
        for name in names:
            w, c = time.perf_counter(), time.process_time()
            loops[name].run(steps)
            if repeat > 0:  # the first round warms up
                wall[name].append(time.perf_counter() - w)
                cpu[name].append(time.process_time() - c)
    middle = statistics.median
    images = steps * BATCH
    return {
        "minimal_images_per_second": images / middle(wall["minimal"]),
        "ours_images_per_second": images / middle(wall["ours"]),
        "ratio_of_medians": middle(wall["minimal"]) / middle(wall["ours"]),
        "median_paired_ratio": middle(m / o for m, o in zip(wall["minimal"], wall["ours"], strict=True)),
        "cpu_ratio_of_medians": middle(cpu["minimal"]) / middle(cpu["ours"]),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rows", type=int, default=12_800)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = {o: measure(o, options.repeats, options.steps, options.rows) for o in ("sgd", "adamw")}
    machine = (
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    )
    if options.json:
        print(json.dumps({"machine": machine, "target": TARGET, **results}))
    else:
        print(machine)
        for name, r in results.items():
            print(f"{name:6}", " ".join(f"{k}={v:,.3f}" if v < 100 else f"{k}={v:,.0f}" for k, v in r.items()))
    return 0 if all(r["median_paired_ratio"] >= TARGET for r in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
