"""One protocol for "does it train": digits, eight settings, two budgets, several seeds, all of them as one program.

A network is trained on scikit-learn's digits (64 pixels, standardised as a whole) with batches of 32 by SGD with
momentum 0.9 at four learning rates and by Adam at four, without schedule, clipping or decay. It has trained when it
names 90 % of 512 training digits rightly; for a network that gives its input back, when it explains half of the
variance (the first 10 principal components explain 74 %). Runs stop there, when they are not finite any more, when
they are still at chance (below 20 %, or 2 % explained) after 300 steps, or after 1,500. An initialisation of which two
settings a seed have trained within 300 steps is decided, and its other runs end there: settings are counted at 300
steps, and 1,500 are spent to see whether what is slow trains at all.

All runs of one architecture are one tensor program: parameters are stacked, ``torch.func.vmap`` runs the module, and
runs that have ended are taken out. Batch normalisation uses the batch, also when accuracy is measured.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from networks import Network
from torch import Tensor, nn
from torch.func import functional_call, replace_all_batch_norm_modules_, vmap
from torch.nn import functional as F

BUDGETS = (300, 1500)
SETTINGS = (
    *(("sgd", rate) for rate in (0.1, 0.03, 0.01, 0.003)),
    *(("adam", rate) for rate in (1e-2, 3e-3, 1e-3, 3e-4)),
)
ENOUGH = 2  # settings that have to train
BATCH, EVERY, STUCK, MARK, EXPLAINED = 32, 25, 300, 0.9, 0.5
PIECE = 128  # digits that are measured at once
CHANCE = {"classify": 0.2, "reconstruct": 0.02}


@dataclass(frozen=True)
class Run:
    """One run: the step at which it was seen to have trained (None: never), its best measure, how it ended."""

    setting: int
    steps: int | None
    best: float
    end: str  # trained, diverged, stuck, decided or budget


def digits() -> tuple[Tensor, Tensor]:
    """All 1,797 digits, standardised as a whole, and their classes."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = torch.tensor(x, dtype=torch.float32)
    return (x - x.mean()) / x.std(), torch.tensor(y)


def shaped(x: Tensor, reads: str) -> Tensor:
    return x.reshape(-1, 1, 8, 8) if reads == "image" else x


class Batch:
    """Many copies of one network, trained side by side: SGD's runs in front, Adam's behind."""

    def __init__(
        self,
        modules: Sequence[nn.Module],
        settings: Sequence[int],
        network: Network,
        seed: int,
        groups: Sequence[str] = (),
    ) -> None:
        self.network, self.settings, self.groups = network, list(settings), list(groups)
        self.skeleton = replace_all_batch_norm_modules_(modules[0]).train()
        self.alive = sorted(range(len(settings)), key=lambda i: SETTINGS[settings[i]][0] == "adam")
        named = [dict(modules[i].named_parameters()) for i in self.alive]
        self.shapes = {k: v.shape for k, v in named[0].items()}
        self.sizes = [v.numel() for v in named[0].values()]
        flat = [torch.cat([n[k].detach().flatten() for k in self.shapes]) for n in named]
        self.values = torch.stack(flat).requires_grad_()  # (runs, parameters)
        self.buffers = {k: v for k, v in modules[0].named_buffers() if "running_" not in k and "num_batches" not in k}
        self.sgd = sum(SETTINGS[s][0] == "sgd" for s in settings)
        self.first = torch.zeros_like(self.values)
        self.second = torch.zeros_like(self.values[self.sgd :])
        self.rate = torch.tensor([SETTINGS[settings[i]][1] for i in self.alive])[:, None]
        self.x, self.y = digits()
        self.x = shaped(self.x, network.reads)
        self.order = torch.Generator().manual_seed(seed)
        self.run = vmap(self._one, in_dims=(0, None), randomness="different")
        self.found: dict[int, Run] = {}
        self.best = [-math.inf] * len(modules)

    def _one(self, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(self.skeleton, {**self.buffers, **parameters}, (x,))

    def _outputs(self, x: Tensor) -> Tensor:
        parts = self.values.split(self.sizes, 1)
        shaped_parts = (p.unflatten(1, s) if s else p.squeeze(1) for p, s in zip(parts, self.shapes.values()))  # noqa: B905
        return self.run(dict(zip(self.shapes, shaped_parts, strict=True)), x)  # (runs, B, …)

    def _losses(self, at: Tensor) -> Tensor:
        out, x = self._outputs(self.x[at]), self.x[at]
        if self.network.task == "reconstruct":
            return ((out - x) ** 2).mean(tuple(range(1, out.dim())))
        y = self.y[at].expand(len(out), -1)
        return F.cross_entropy(out.transpose(1, 2), y, reduction="none").mean(1)

    def step(self, t: int, at: Tensor) -> None:
        """One step of every run, by its own optimiser and rate."""
        (g,) = torch.autograd.grad(self._losses(at).sum(), self.values)
        k = self.sgd
        with torch.no_grad():
            self.first[:k].mul_(0.9).add_(g[:k])
            self.values[:k].addcmul_(self.first[:k], self.rate[:k], value=-1)
            m, v, g = self.first[k:], self.second, g[k:]
            m.lerp_(g, 0.1)
            v.mul_(0.999).addcmul_(g, g, value=0.001)
            down = v.div(1 - 0.999**t).sqrt_().add_(1e-8)
            self.values[k:].addcdiv_(m * self.rate[k:], down, value=-1 / (1 - 0.9**t))

    @torch.no_grad()
    def measure(self, t: int, last: bool) -> None:
        """Accuracy (or explained variance) of every run; those that have ended leave."""
        x = self.x[:512]
        out = torch.cat([self._outputs(piece) for piece in x.split(PIECE)], 1)
        if self.network.task == "reconstruct":
            error = ((out - x) ** 2).flatten(1).mean(1)
            measure = (1 - error / x.var()).tolist()
        else:
            measure = (out.argmax(-1) == self.y[:512]).float().mean(1).tolist()
        finite = torch.isfinite(out).flatten(1).all(1).tolist()
        reconstruct = self.network.task == "reconstruct"
        mark, chance = EXPLAINED if reconstruct else MARK, CHANCE[self.network.task]
        keep = []
        for k, run in enumerate(self.alive):
            value = measure[k] if finite[k] else -math.inf
            self.best[run] = max(self.best[run], value)
            if value >= mark:
                end = "trained"
            elif not finite[k]:
                end = "diverged"
            elif last:
                end = "budget"
            elif t >= STUCK and self.best[run] < chance:
                end = "stuck"
            else:
                keep.append(k)
                continue
            self._end(run, end, t)
        if t == BUDGETS[0]:
            decided = self._decided()
            for k in keep:
                if self.groups[self.alive[k]] in decided:
                    self._end(self.alive[k], "decided", t)
            keep = [k for k in keep if self.alive[k] not in self.found]
        if len(keep) < len(self.alive):
            self._keep(keep)

    def _end(self, run: int, end: str, t: int) -> None:
        self.found[run] = Run(self.settings[run], t if end == "trained" else None, self.best[run], end)

    def _decided(self) -> set[str]:
        """Groups of which enough runs have trained."""
        there = Counter(self.groups[run] for run, r in self.found.items() if r.end == "trained")
        every = Counter(self.groups)
        return {g for g, n in every.items() if there[g] * len(SETTINGS) >= ENOUGH * n}

    def _keep(self, which: list[int]) -> None:
        at, k = torch.tensor(which, dtype=torch.long), self.sgd
        self.alive = [self.alive[i] for i in which]
        self.values = self.values.detach()[at].requires_grad_()
        self.first, self.rate = self.first[at], self.rate[at]
        self.second = self.second[at[at >= k] - k]
        self.sgd = int((at < k).sum())

    def train(self, steps: int) -> list[Run]:
        for t in range(1, steps + 1):
            self.step(t, torch.randint(0, len(self.x), (BATCH,), generator=self.order))
            if t % (EVERY if t <= BUDGETS[0] else 4 * EVERY) == 0 or t == steps:
                self.measure(t, t == steps)
                if not self.alive:
                    break
        return [self.found[i] for i in range(len(self.settings))]


Prepare = Callable[[nn.Module, Network, int], object]


def made(network: Network, prepare: Prepare | None, seed: int) -> nn.Module:
    """One network with its own weights, or prepared otherwise."""
    torch.manual_seed(1000 + seed)
    module = network.make()
    if prepare is not None:
        prepare(module, network, seed)
    return module


def trial(network: Network, prepares: Mapping[str, Prepare | None], seeds: Sequence[int], steps: int) -> dict:
    """Runs by (initialisation, seed): all settings of each; ``prepares`` is the initialisations by name."""
    keys, modules, settings, groups = [], [], [], []
    for name, prepare in prepares.items():
        for seed in seeds:
            module = made(network, prepare, seed)
            keys.append((name, seed))
            modules += [module] * len(SETTINGS)
            settings += range(len(SETTINGS))
            groups += [name] * len(SETTINGS)
    runs = Batch(modules, settings, network, seeds[0], groups).train(steps)
    n = len(SETTINGS)
    return {key: runs[i * n : (i + 1) * n] for i, key in enumerate(keys)}


class Results:
    """Finished runs as JSON lines: appended as they end, read on the next start."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def has(self, network: str, init: str, seed: int) -> bool:
        return any((r["network"], r["init"], r["seed"]) == (network, init, seed) for r in self.rows)

    def add(self, network: str, init: str, seed: int, runs: Sequence[Run], **more: object) -> None:
        row = {
            "network": network,
            "init": init,
            "seed": seed,
            "steps": [r.steps for r in runs],
            "best": [round(r.best, 4) if math.isfinite(r.best) else None for r in runs],
            "end": [r.end for r in runs],
            **more,
        }
        self.rows.append(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def of(self, network: str, init: str) -> list[dict]:
        return [r for r in self.rows if r["network"] == network and r["init"] == init]


def trained(row: Mapping[str, object], budget: int) -> int:
    """How many of the eight settings were there within a budget."""
    steps = row["steps"]
    assert isinstance(steps, list)
    return sum(s is not None and s <= budget for s in steps)


def best_rows(results: Results, name: str, init: str) -> list[dict]:
    """One row a seed: the one that was given most steps."""
    rows: dict[int, dict] = {}
    for row in results.of(name, init):
        known = rows.get(row["seed"])
        if known is None or row.get("limit", BUDGETS[-1]) >= known.get("limit", BUDGETS[-1]):
            rows[row["seed"]] = row
    return list(rows.values())


def late(rows: Sequence[dict]) -> int:
    """Runs that were there within the longest budget."""
    return sum(trained(r, BUDGETS[-1]) for r in rows)


def open_runs(rows: Sequence[dict], task: str) -> int:
    """Runs that were cut at 300 steps although they were learning."""
    return sum(
        end == "budget" and (best or 0.0) >= CHANCE[task]
        for r in rows
        if r.get("limit", BUDGETS[-1]) < BUDGETS[-1]
        for end, best in zip(r["end"], r["best"], strict=True)
    )


def verdict(results: Results, name: str, init: str, task: str) -> bool | None:
    """Whether a network trains from an initialisation; None where that is not known."""
    rows = best_rows(results, name, init)
    if not rows:
        return None
    if late(rows) >= ENOUGH * len(rows):
        return True
    return None if late(rows) + open_runs(rows, task) >= ENOUGH * len(rows) else False


def _missing(results: Results, name: str, init: str, task: str, seeds: Sequence[int], steps: int) -> bool:
    """Whether a seed was not run, or what was run in fewer steps decides nothing."""
    if not all(results.has(name, init, seed) for seed in seeds):
        return True
    given = min(r.get("limit", BUDGETS[-1]) for r in best_rows(results, name, init))
    return given < steps and verdict(results, name, init, task) is None


def fill(
    results: Results,
    networks: Mapping[str, Network],
    prepares: Mapping[str, Prepare | None],
    seeds: Sequence[int],
    steps: int = BUDGETS[-1],
) -> Iterator[str]:
    """Runs what is missing, or undecided by fewer steps, for up to ``steps``, network by network; a line about each."""
    for name, network in networks.items():
        wanted = {
            init: prepare
            for init, prepare in prepares.items()
            if _missing(results, name, init, network.task, seeds, steps)
        }
        if not wanted:
            continue
        start = time.monotonic()
        for (init, seed), runs in trial(network, wanted, seeds, steps).items():
            results.add(name, init, seed, runs, limit=steps)
        told = ", ".join(f"{init} {late(best_rows(results, name, init))}/{8 * len(seeds)}" for init in wanted)
        yield f"{name}: {told} ({time.monotonic() - start:.0f} s)"
