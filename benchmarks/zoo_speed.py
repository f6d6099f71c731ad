"""Time to make every network of the zoo (shapes, cost, key) and to run theory over it, against our own limits.

    python benchmarks/zoo_speed.py [--out benchmarks/results/zoo_speed.md]

Processor time of a warm process, best of a few, each from nothing: pure Python and small arrays on one core. Making:
20 ms for ResNet-50 and for any NAS-Bench-201 network, 200 ms for the largest. Theory, forward and back: 60 ms for
ResNet-50, 40 ms for a NAS-Bench-201 network (median of random cells); the cache of the rules' results is emptied
before each, so nothing is known of the network; "again" is the same network a second time.
"""

import argparse
import gc
import itertools
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from depthscale import zoo
from depthscale.graph import Graph
from depthscale.theory import walk
from depthscale.theory.propagate import propagate


def milliseconds(make: Callable[[], Graph], repeats: int = 5) -> float:
    best = float("inf")
    for _ in range(repeats):
        gc.collect()
        start = time.process_time()
        graph = make()
        graph.shapes(), graph.cost(), graph.key
        best = min(best, time.process_time() - start)
    return 1e3 * best


def theory(graph: Graph, repeats: int = 3, *, again: bool = False) -> float:
    best = float("inf")
    for _ in range(repeats):
        if not again:
            walk._cache.clear()
        gc.collect()
        start = time.process_time()
        propagate(graph)
        best = min(best, time.process_time() - start)
    return 1e3 * best


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    times = {name: milliseconds(lambda name=name: zoo.get(name)) for name in zoo.names()}
    largest = max(times, key=lambda name: times[name])
    codes = random.Random(0).sample(["".join(c) for c in itertools.product("01234", repeat=6)], 300)
    cells = {code: milliseconds(lambda code=code: zoo.nasbench201(code), 2) for code in codes}
    slowest = max(cells, key=lambda code: cells[code])
    networks = {code: zoo.nasbench201(code) for code in codes[:60]}
    for network in networks.values():  # what belongs to sizes and to activations is known to a warm process
        propagate(network)
    fifty = zoo.resnet(50)
    propagate(fifty)
    unseen = {code: theory(network, 2) for code, network in networks.items()}
    worst = max(unseen, key=lambda code: unseen[code])
    rows: list[tuple[str, float, float | None]] = [
        ("make ResNet-50", times["resnet50"], 20.0),
        (f"make NAS-Bench-201, slowest of {len(codes)} cells ({slowest})", cells[slowest], 20.0),
        (f"make the slowest of the zoo ({largest}, {len(zoo.get(largest))} nodes)", times[largest], 200.0),
        ("theory over ResNet-50", theory(fifty, 5), 60.0),
        ("theory over ResNet-50, again", theory(fifty, 5, again=True), None),
        (f"theory over NAS-Bench-201, median of {len(unseen)} cells", statistics.median(unseen.values()), 40.0),
        (f"theory over NAS-Bench-201, slowest of them ({worst})", unseen[worst], None),
        (f"theory over NAS-Bench-201, {worst} again", theory(networks[worst], again=True), None),
    ]
    head = f"Python {platform.python_version()}, NumPy {np.__version__}, {platform.machine()}, {os.cpu_count()} cores"
    lines = ["| what | ms of processor time | allowed | times faster |", "|---|---|---|---|"]
    for what, ms, limit in rows:
        lines.append(f"| {what} | {ms:.1f} | {'' if limit is None else f'{limit:.0f}'} | "
                     f"{'' if limit is None else f'{limit / ms:.1f}'} |")  # fmt: skip
    print(head, *lines, sep="\n")
    if given.out is not None:
        note = "Made by `python benchmarks/zoo_speed.py`; its head says how each is timed."
        text = ["# Time to make networks and to run theory over them", "", f"{head}. {note}", "", *lines, ""]
        given.out.write_text("\n".join(text))
    return 1 if any(limit is not None and ms > limit for _, ms, limit in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
