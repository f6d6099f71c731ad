"""A space and an evaluator for tests of the machinery: quick, picklable, and written down as it happens."""

import csv
import itertools
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from depthscale import zoo
from depthscale.errors import SearchError
from depthscale.search.evaluate import Evaluation, Outcome
from depthscale.zoo.nasbench201 import OPS, write


def space(decide):
    """625 networks: four widths of a chain."""
    return zoo.mlp((3, *[decide(f"w{i}", [1, 2, 3, 4, 5]) for i in range(4)], 2))


def few(decide):
    """125 networks."""
    return zoo.mlp((3, *[decide(f"w{i}", [1, 2, 3, 4, 5]) for i in range(3)], 2))


def only_one(decide):
    return zoo.mlp((3, decide("w", [4]), 2))


def only_deadly(decide):
    return zoo.mlp((3, decide("w0", [3]), 2))


def broken(decide):
    return zoo.mlp((3, 2)) if decide("x", [0, 1]) else 1 / 0


@dataclass(frozen=True)
class Counted:
    """Scores a network by the sum of its widths; begins and ends are lines of ``log``."""

    log: str
    seconds: float = 0.0
    rungs: tuple[int, ...] = (1,)
    deadly: int = -1  # a network whose first width this is kills its process
    signal: str = "the sum"

    def begin(self, space, draw, seed):
        name = "".join(str(v) for v in draw.decisions.values())
        self.note("begin", name, seed)

        def run(rung):
            if draw.decisions.get("w0") == self.deadly:
                os.kill(os.getpid(), 9)
            time.sleep(self.seconds)
            if rung == self.rungs[-1]:
                self.note("end", name, seed)
            value = float(sum(draw.decisions.values())) * rung / self.rungs[-1]
            return Outcome(value, 1.0, 1.0, {"sum": value})

        return Evaluation(sum(draw.decisions.values()), run)

    def note(self, what, name, seed):
        file = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, f"{what} {seed} {name} {os.getpid()}\n".encode())
        os.close(file)


def lines(log, what):
    if not Path(log).exists():
        return []
    return [tuple(line.split()[1:3]) for line in Path(log).read_text().splitlines() if line.startswith(what)]


class Ill:
    """An evaluator that finds something wrong."""

    rungs = (1,)
    signal = "nothing"

    def begin(self, space, draw, seed):
        raise SearchError("nothing to be found here")


def table(file):
    """A table of every cell; val12 is how many 3 × 3 convolutions it has, the test is less of it by noise."""
    rng = np.random.default_rng(0)
    columns = ["val12", "test12", "val200", "test200", "train_time", "model_size"]
    with Path(file).open("w", newline="") as f:
        out = csv.writer(f)
        out.writerow(["arch", *(f"c10_{c}" for c in columns)])
        for code in itertools.product(range(5), repeat=6):
            n = sum(c == 3 for c in code) + 0.1 * sum(c == 2 for c in code)
            out.writerow([write(tuple(OPS[c] for c in code)), n, n, n, n - rng.random(), 1000 + n, 0.1 + n])
    return file
