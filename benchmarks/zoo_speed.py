"""Time to make every network of the zoo and know its shapes, cost and key, against the limits we set ourselves.

    python benchmarks/zoo_speed.py

Processor time, best of five, each from nothing: pure Python on one core, so an idle machine takes as long. Limits:
20 ms for ResNet-50 and for any NAS-Bench-201 network, 200 ms for the largest.
"""

import gc
import itertools
import os
import platform
import random
import sys
import time
from collections.abc import Callable

from depthscale import zoo
from depthscale.graph import Graph


def milliseconds(make: Callable[[], Graph], repeats: int = 5) -> float:
    best = float("inf")
    for _ in range(repeats):
        gc.collect()
        start = time.process_time()
        graph = make()
        graph.shapes(), graph.cost(), graph.key
        best = min(best, time.process_time() - start)
    return 1e3 * best


def main() -> int:
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores; best of 5, ms")
    times = {name: milliseconds(lambda name=name: zoo.get(name)) for name in zoo.names()}
    for name, ms in sorted(times.items(), key=lambda item: -item[1])[:10]:
        print(f"{name:24} {len(zoo.get(name)):5} nodes {ms:7.1f}")
    codes = random.Random(0).sample(["".join(c) for c in itertools.product("01234", repeat=6)], 300)
    cells = {code: milliseconds(lambda code=code: zoo.nasbench201(code), 2) for code in codes}
    slowest = max(cells, key=lambda code: cells[code])
    rows = [
        ("resnet50", times["resnet50"], 20.0),
        (f"nasbench201, slowest of {len(codes)} ({slowest})", cells[slowest], 20.0),
        (f"the slowest of all ({max(times, key=lambda n: times[n])})", max(times.values()), 200.0),
    ]
    for what, ms, limit in rows:
        print(f"{what:50} {ms:7.1f} of {limit:.0f} allowed, {limit / ms:.1f} times faster")
    return 1 if any(ms > limit for _, ms, limit in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
