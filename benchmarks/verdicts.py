"""Are the verdicts of ``check`` right? Networks with the weights they come with, checked, against training them.

    python benchmarks/networks_train.py verdict --seeds 0,1,2      # trains them: an hour, resumable
    python benchmarks/verdicts.py                    # checks them and writes results/verdicts.md

A network trains if at least two of the eight settings (``protocol``) reach the mark within 1,500 steps. Thresholds
were set when the runs of the networks in CALIBRATED were known; all others are held out.
"""

from __future__ import annotations

import platform
import warnings
from pathlib import Path

import torch
from networks import REPAIR, VERDICT, Network
from networks_train import RESULTS
from protocol import ENOUGH, SETTINGS, Results, digits, made, shaped
from repair_table import best_rows, early, late, verdict

from depthscale.diagnose import check

CALIBRATED = (
    "tanh 4, default",
    "tanh 50, Xavier",
    "tanh 50, default",
    "tanh 30, N(0, 1)",
    "relu 50, default",
    "relu 20, Kaiming",
    "relu 30, N(0, 0.01)",
    "relu 12, N(0, 1)",
    "gelu 40, default",
    "gelu 8, default",
    "gelu 20, Kaiming",
    "sigmoid 20, default",
)
# of the repair benchmark's networks: known when thresholds were set, or a rule (recurrence) was added because of it
KNOWN = ("tanh 100", "relu 50", "gelu 60", "residual 50, N(0, 1)/4", "recurrent tanh, 64 steps")


def row(name: str, network: Network, results: Results) -> dict | None:
    runs = best_rows(results, name, "own")
    if not runs or (name in REPAIR and verdict(results, name, "own") is None):
        return None
    found = check(made(network, None, 0), shaped(digits()[0], network.reads)[:64], name=name)
    trains = late(runs) >= ENOUGH * len(runs)
    return {
        "name": name,
        "verdict": found.kind,
        "trains": trains,
        "runs": len(runs) * len(SETTINGS),
        "settings": late(runs),
        "early": early(runs),
        "right": found.trains == trains,
        "where": found.where,
        "cause": found.cause,
    }


def table(rows: list[dict]) -> str:
    lines = ["| network | verdict | first at | trained in 300 steps | in 1,500 | right |", "|---|---|---|---|---|---|"]
    for r in rows:
        right = "yes" if r["right"] else "**no**"
        where = f"`{r['where']}`" if r["where"] else ""
        lines.append(
            f"| {r['name']} | {r['verdict']} | {where} | {r['early']} of {r['runs']} | {r['settings']} | {right} |"
        )
    return "\n".join(lines)


def count(rows: list[dict]) -> str:
    return f"{sum(r['right'] for r in rows)} of {len(rows)}"


def main() -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    results = Results(RESULTS)
    found = [r for name, net in VERDICT.items() if (r := row(name, net, results))]
    more = [r for name, net in REPAIR.items() if name not in VERDICT and (r := row(name, net, results))]
    seen = [r for r in found if r["name"] in CALIBRATED]
    fresh = [r for r in more if r["name"] not in KNOWN]
    held = [r for r in found if r["name"] not in CALIBRATED]
    missing = [name for name in VERDICT if not any(r["name"] == name for r in found)]
    seeds = max(r["runs"] for r in found) // len(SETTINGS)
    text = f"""# Verdicts against training

`python benchmarks/networks_train.py verdict --seeds 0,1,2`, then `python benchmarks/verdicts.py`;
{platform.machine()}, torch {torch.__version__}, {seeds} seeds, eight settings each (SGD with momentum at 0.1, 0.03,
0.01, 0.003; Adam at 1e-2, 3e-3, 1e-3, 3e-4), batches of 32. A network counts as trained if at least {ENOUGH} settings a
seed reach 90 % of 512 training digits (an autoencoder: half of the variance) within 1,500 steps; where they do within
300, the others end there.

**Right: {count(found)}** ({count(seen)} of those that thresholds were set on, {count(held)} held out), and of the
networks of the repair benchmark {count(more)} ({count(fresh)} held out; a rule for
recurrence was added when "recurrent tanh" had been called healthy and did not train).
{"Not run for want of time: " + ", ".join(missing) + "." if missing else ""}

## Held out

{table(held)}

## Thresholds were set on these

{table(seen)}

## The repair benchmark's networks, with their own weights

{table(more)}
"""
    path = Path(__file__).parent / "results" / "verdicts.md"
    path.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
