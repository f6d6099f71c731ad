"""Repair against Xavier, Kaiming, orthogonal with the right gain, and LSUV: which make networks train?

    python benchmarks/networks_train.py repair --seeds 0,1,2      # fills results/networks.jsonl, resumable
    python benchmarks/repair_table.py                             # writes results/repair.md

A network trains from an initialisation if at least two of eight settings a seed reach the mark (``protocol``), within
300 steps or, where that does not decide, within 1,500.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

import torch
from networks import REPAIR
from networks_train import RESULTS
from protocol import BUDGETS, ENOUGH, MARK, SETTINGS, Results, best_rows, late, trained, verdict as decided

INITS = ("own", "Xavier", "Kaiming", "orthogonal", "LSUV", "depthscale")
TUNED = ("relu 50", "tanh 100", "gelu 60")  # the output's scale was chosen on these


def early(rows: Sequence[dict]) -> int:
    """Runs that were there within 300 steps."""
    return sum(trained(r, BUDGETS[0]) for r in rows)


def verdict(results: Results, name: str, init: str) -> bool | None:
    """Whether a network trains from an initialisation; None where that is not known."""
    return decided(results, name, init, REPAIR[name].task)


def cell(results: Results, name: str, init: str) -> str:
    rows = best_rows(results, name, init)
    if not rows:
        return "–"
    steps = sorted(s for r in rows for s in r["steps"] if s is not None)
    text = f"{early(rows)}"
    if verdict(results, name, init) is None:
        text += " ?"
    elif late(rows) > early(rows):
        text += f" ({late(rows)})"
    return f"{text}, {steps[len(steps) // 2]}" if steps else text


def count(results: Results, names: Sequence[str], init: str) -> str:
    found = [verdict(results, n, init) for n in names]
    unknown = sum(v is None for v in found)
    return f"{init} {sum(v is True for v in found)}" + (f" ({unknown} not decided)" if unknown else "")


def main() -> None:
    results = Results(RESULTS)
    names = [n for n in REPAIR if all(results.of(n, i) for i in INITS)]
    sick = [n for n in names if verdict(results, n, "own") is False]
    # what no initialisation brings there cannot be told from what none can
    mendable = [n for n in sick if any(verdict(results, n, i) is not False for i in INITS)]
    fresh = [n for n in sick if n not in TUNED]
    seeds = {len(best_rows(results, n, i)) for n in names for i in INITS}
    runs = len(SETTINGS) * max(seeds)
    settings = ", ".join(f"{i} {sum(early(best_rows(results, n, i)) for n in sick)}" for i in INITS)
    medians = []
    for i in INITS:
        steps = sorted(s for n in sick for r in best_rows(results, n, i) for s in r["steps"] if s is not None)
        medians.append(f"{i} {steps[len(steps) // 2] if steps else '–'}")
    head = "| network | " + " | ".join(INITS) + " |\n|---|" + "---|" * len(INITS)

    def table(rows: Sequence[str]) -> str:
        return "\n".join([head, *["| " + " | ".join([n, *[cell(results, n, i) for i in INITS]]) + " |" for n in rows]])

    healthy = [n for n in names if n not in sick]
    left = [n for n in REPAIR if n not in names]
    ours = sum(verdict(results, n, "depthscale") is True for n in sick)
    everywhere, elsewhere = ("; ".join(count(results, some, i) for i in INITS) for some in (sick, fresh))
    text = f"""# Repair against the usual initialisations

`python benchmarks/networks_train.py repair --seeds 0,1,2`, `python benchmarks/repair_table.py`; {platform.machine()},
torch {torch.__version__}, {"/".join(str(s) for s in sorted(seeds))} seeds, eight settings each (SGD with momentum at
0.1, 0.03, 0.01, 0.003; Adam at 1e-2, 3e-3, 1e-3, 3e-4), batches of 32. The mark is {MARK:.0%} of 512 training digits,
for autoencoders half of the variance. A network trains from an initialisation if at least {ENOUGH} of eight settings a
seed reach it. `own` is what the code itself draws.

**Of {len(sick)} networks that do not train with their own weights, depthscale makes
{ours} train**; {len(mendable)} can be mended by one
initialisation or another, as far as is known. Train, of {len(sick)}: {everywhere}.
Without the three on which depthscale's output scale was chosen ({", ".join(TUNED)}), of {len(fresh)}:
{elsewhere}.

Settings that reach the mark within 300 steps, of {runs * len(sick)}: {settings}. Median steps of those that do:
{"; ".join(medians)}.

Cells: runs of {runs} that reached the mark within 300 steps (within 1,500, where that is more), and the median of their
steps. A question mark: too few did within 300 steps, some were still learning, and they were not run for longer. Runs
at chance after 300 steps count as failed; an initialisation of which enough runs were there is not run for longer.

{table(sick)}

## With their own weights these train, or may

{table(healthy)}

{"Not run for want of time: " + ", ".join(left) + "." if left else ""}
"""
    path = Path(__file__).parent / "results" / "repair.md"
    path.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
