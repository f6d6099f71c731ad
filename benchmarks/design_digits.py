"""``depthscale design digits`` with its default budget, seed by seed: test accuracy beside the baselines'.

    python benchmarks/design_digits.py --seeds 5 --budget 60s

Prints a table and writes benchmarks/results/design_digits.md.
"""

import argparse
import platform
from pathlib import Path

import psutil
import torch

import depthscale as ds

RESULTS = Path(__file__).parent / "results" / "design_digits.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget", default="60s")
    args = parser.parse_args()
    head = None
    lines = [
        f"# depthscale design digits --budget {args.budget}",
        "",
        f"{platform.system()} {platform.machine()}, {psutil.cpu_count()} cores, torch {torch.__version__}, "
        f"Python {platform.python_version()}; one run per seed, which also draws the split.",
        "",
    ]
    for seed in range(args.seeds):
        result = ds.design("digits", budget=args.budget, seed=seed)
        if head is None:
            head = ["seed", "test accuracy", "n", *[s.name for s in result.standings], "seconds", "network"]
            lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        others = [f"{s.score.metrics['accuracy']:.4f}" for s in result.standings]
        row = [seed, f"{result.metrics['accuracy']:.4f}", result.score.n, *others, f"{result.seconds:.0f}"]
        lines.append("| " + " | ".join(map(str, [*row, result.winner.words])) + " |")
        print(lines[-1], flush=True)
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
