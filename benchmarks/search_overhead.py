"""What a strategy costs: ask and tell of an in-memory study of 500 trials, in milliseconds a trial.

    python benchmarks/search_overhead.py [--trials 500] [--repeats 3]

The space is NAS-Bench-201 (six decisions of five options), the score a sum over operations, so nothing but the
strategy and Optuna is timed; CPU time of this process, median of repeats. Beside each: its ratio to Optuna's own
RandomSampler in the same run. Bounds: 2 ms for the simple strategies, 20 ms for the rest, none for GP.
"""

import argparse
import platform
import statistics
import time
from pathlib import Path

import optuna

from depthscale.search.features import of_decisions
from depthscale.search.spaces import space
from depthscale.search.strategies import ONE_SHOT, STRATEGIES, strategy
from depthscale.search.tabular import TrialDecider
from depthscale.zoo.nasbench201 import OPS, parse

SIMPLE = ("random", "evolution", "local", "q-learning", "q-learning-shaped", "mcts")
SPACE = space("nasbench201")
FEATURES = of_decisions(SPACE, 20_000)


def once(sampler, trials: int) -> float:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    start = time.process_time()
    for _ in range(trials):
        trial = study.ask()
        cell = SPACE.draw(TrialDecider(trial)).architecture
        study.tell(trial, float(sum(OPS.index(op) for op in parse(cell))))
    return 1e3 * (time.process_time() - start) / trials


def made(name: str, seed: int):
    if name == "optuna's random":
        return optuna.samplers.RandomSampler(seed=seed)
    if name == "largest":
        return strategy(name, seed, space=SPACE, pool=8)
    return strategy(name, seed, **({"features": FEATURES} if name in ("predictor", "progressive", "screened") else {}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--strategies", default=",".join(n for n in STRATEGIES if n not in ("gp", *ONE_SHOT)))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/search_overhead.md"))
    args = parser.parse_args()
    names = ["optuna's random", *args.strategies.split(",")]
    found: dict[str, list[float]] = {n: [] for n in names}
    for repeat in range(args.repeats):  # interleaved, so that a busy minute is everybody's
        for name in names:
            found[name].append(once(made(name, repeat), args.trials))
            print(f"{name}: {found[name][-1]:.3f} ms", flush=True)
    base = statistics.median(found["optuna's random"])
    lines = ["| strategy | ms a trial | bound | of Optuna's random |", "|---|---|---|---|"]
    for name in names:
        middle = statistics.median(found[name])
        bound = 2 if name in SIMPLE or name == "optuna's random" else 20
        met = "met" if middle <= bound else "missed"
        lines.append(f"| {name} | {middle:.2f} | {bound} ms, {met} | {middle / base:.1f} |")
    about = (
        f"# Overhead of strategies\n\nask + tell in an in-memory study of {args.trials} trials over six decisions, CPU "
        f"time, median of {args.repeats} (`python benchmarks/search_overhead.py`). {platform.machine()}, Python "
        f"{platform.python_version()}, Optuna {optuna.__version__}, one thread.\n\n"
    )
    args.out.write_text(about + "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
