"""Predicted against measured scale of signal and gradient, for every network of the zoo.

    python benchmarks/zoo_scales.py [--seeds 3] [--only NAME …] [--runs out/zoo_scales.jsonl] [--out FILE]

Each network is built with its own laws and run, forward and back, on white noise (``figures/zoo_scales.py`` says how).
What is measured goes to RUNS as it comes, and a second run goes on from it; predictions are made anew each time.
Writes benchmarks/results/zoo_scales.md and .png. About an hour on one core; the largest networks take some 4 GB.
"""

import argparse
import platform
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from depthscale import zoo
from depthscale.figures import zoo_scales as figure
from depthscale.record import Record, read

Runs = dict[str, dict[int, dict[str, tuple[float, float]]]]


def measure(names: list[str], seeds: int, file: Path) -> Runs:
    """For every network and seed the mean squares of every node's value and gradient."""
    found: Runs = defaultdict(dict)
    if file.exists():
        for e in read(file).of("run"):
            found[e["network"]][e["seed"]] = {n: (q, g) for n, q, g in zip(e["nodes"], e["q"], e["g"], strict=True)}
    with Record(file) as record:
        for i, name in enumerate(names, 1):
            left = [s for s in range(seeds) if s not in found[name]]
            if not left:
                continue
            graph, batch = figure.setting(name)
            start = time.process_time()
            for seed in left:
                run = found[name][seed] = figure.simulate(graph, seed, batch)
                q, g = zip(*run.values(), strict=True)
                record.write("run", network=name, seed=seed, batch=batch, nodes=list(run), q=q, g=g)
            print(
                f"{i}/{len(names)} {name}: {len(left)} seeds of {batch}, {time.process_time() - start:.0f} s",
                flush=True,
            )
    return found


HEADER = (
    "network", "image", "batch", "depth", "signal per layer: predicted", "measured",
    "gradient energy per layer: predicted", "measured", "first/last gradient, decades: predicted", "measured ± seeds",
    "nodes forward: median", "90 %", "nodes backward: median", "90 %", "noise",
)  # fmt: skip


def cells(network: dict[str, Any]) -> list[str]:
    depth = network["depth"]
    q, energy = (figure.mean_curve(network, what) for what in ("q", "energy"))
    each = [figure.decades(run, back=True) / 2 for run in network["measured"]["energy"]]
    scatter = f" ± {torch.tensor(each).std().item():.3f}" if len(each) > 1 else ""
    image = "×".join(str(n) for n in network["image"])
    return [
        network["name"], image, str(network["batch"]), str(depth[-1]),
        f"{figure.growth(network['predicted']['q'], depth):.4f}", f"{figure.growth(q, depth):.4f}",
        f"{figure.growth(network['predicted']['energy'], depth, back=True):.4f}",
        f"{figure.growth(energy, depth, back=True):.4f}",
        f"{figure.decades(network['predicted']['energy'], back=True) / 2:+.3f}",
        f"{figure.decades(energy, back=True) / 2:+.3f}{scatter}",
        f"{network['forward']['median']:.4f}", f"{network['forward']['p90']:.3f}",
        f"{network['backward']['median']:.3f}", f"{network['backward']['p90']:.3f}",
        f"{network['backward']['noise']:.3f}" if len(each) > 1 else "",
    ]  # fmt: skip


def markdown(data: dict[str, Any]) -> str:
    networks = sorted(data["networks"], key=lambda n: -n["backward"]["median"])
    verdict = figure.judge(data)
    nodes = [sum(n[way]["nodes"] for n in networks) for way in ("forward", "backward")]
    count = f"{len(networks)} networks, {data['seeds']} seed{'s' * (data['seeds'] > 1)} each; worst gradients first."
    lines = [
        "# Predicted and measured scales, network by network",
        "",
        f"{count} {verdict.reason}: {verdict.kind}.",
        "",
        "Signal: the mean square of what weighted layers put out. Gradient energy: the sum of squares of the gradient "
        "there, on its way back. Per layer: the factor from the first to the last depth, to the power 1/depth. "
        "First/last: root mean square gradient at the first layer over that at the last, log10. Nodes: "
        f"|log10(predicted/measured mean)| over all nodes ({nodes[0]:,} and {nodes[1]:,}); noise: the standard error "
        "of the measured mean, median over nodes, in decades.",
        "",
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()} CPU, float32; images of "
        f"half the side for networks beyond {figure.LARGE / 1e9:.0f} G multiply-adds. "
        f"Made by `python benchmarks/zoo_scales.py --seeds {data['seeds']}`.",
        "",
        "| " + " | ".join(HEADER) + " |",
        "|" + "---|" * len(HEADER),
        *("| " + " | ".join(cells(n)) + " |" for n in networks),
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=figure.SEEDS)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "zoo_scales")
    parser.add_argument("--runs", type=Path, default=Path("out/zoo_scales.jsonl"))
    given = parser.parse_args()
    names = given.only or list(zoo.names())
    runs = measure(names, given.seeds, given.runs)
    networks = []
    for name in names:
        graph, batch = figure.setting(name)
        networks.append(figure.compare(name, [runs[name][s] for s in range(given.seeds)], graph, batch))
    data = {"seeds": given.seeds, "networks": networks}
    given.out.with_suffix(".md").write_text(markdown(data))
    figure.draw(data).savefig(given.out.with_suffix(".png"), dpi=110)
    print(f"wrote {given.out.with_suffix('.md')} and .png; {figure.judge(data).reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
