"""Do structured edits save time, and what does an edit cost? Medians of interleaved CPU times.

1. A training step before and after layers of width 128 and more are narrowed: time ratio over ratio of multiply-adds
   (1: time falls as the arithmetic does; the goal is 0.7).
2. An edit (made and applied, optimiser included) in ordinary training steps of LeNet-5 and ResNet-18 (goal: below 20).

``python benchmarks/grow_speed.py`` prints both tables and writes benchmarks/results/grow_speed.md.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional as F

from depthscale import zoo
from depthscale.build import build
from depthscale.errors import GraphError
from depthscale.graph import Graph, ops
from depthscale.grow import Live, add_units, connect, deepen, free_layers, narrow, split, widen
from depthscale.grow.resize import scaled
from depthscale.grow.spaces import Spaces

RESULT = Path(__file__).parent / "results" / "grow_speed.md"


def stepper(graph: Graph, batch: int) -> tuple[Live, Callable[[], None]]:
    module = build(graph, 0)
    live = Live(module, torch.optim.AdamW(module.parameters(), 1e-3, fused=True))
    return live, step_of(live, batch)


def step_of(live: Live, batch: int) -> Callable[[], None]:
    x = torch.randn(live.graph.shapes(batch)[live.graph.inputs[0]])
    y = torch.randint(0, 10, (batch,))

    def step() -> None:
        live.optimiser.zero_grad()
        F.cross_entropy(live.module(x), y).backward()
        live.optimiser.step()

    return step


def timed(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def halved(graph: Graph) -> Live:
    """The network with every free layer of at least 128 units narrowed to half by edits, in training."""
    live, step = stepper(graph, 8)
    step()
    for layer in free_layers(graph):
        spaces = Spaces(live.graph)
        size = spaces.space(spaces.of(layer)).size
        if size >= 128:
            live = live.apply(narrow(live.graph, layer, range(size // 2)))
    return live


def savings() -> list[str]:
    lines = [
        "| network | batch | multiply-adds, before → after | step, ms, before → after | time ratio / FLOP ratio |",
        "|---|---|---|---|---|",
    ]
    nets = {
        "mlp 784-256-256-10": (zoo.mlp((784, 256, 256, 10)), 128),
        "mlp 784-1024-1024-10": (zoo.mlp((784, 1024, 1024, 10)), 128),
        "convnet 128-256, 16 × 16": (zoo.convnet((1, 1), 128, in_channels=3, image_size=16, norm="batch"), 32),
        "residual, widths 193 to 772": (wide_residual(), 32),
    }
    for name, (graph, batch) in nets.items():
        _, before = stepper(graph, batch)
        live = halved(graph)
        after = step_of(live, batch)
        for _ in range(3):
            before(), after()
        pairs = [(timed(before), timed(after)) for _ in range(15)]
        slow, fast = (statistics.median(p[i] for p in pairs) for i in (0, 1))
        ratio = statistics.median(a / b for a, b in pairs)
        adds = graph.cost().multiply_adds, live.graph.cost().multiply_adds
        lines.append(
            f"| {name} | {batch} | {adds[0]:,} → {adds[1]:,} | {1e3 * slow:.2f} → {1e3 * fast:.2f} | "
            f"{ratio / (adds[0] / adds[1]):.2f} |"
        )
        print(lines[-1], flush=True)
    return lines


def wide_residual() -> Graph:
    graph = zoo.get("resnet20", image_size=32, num_classes=10)
    return scaled(graph, 12 * graph.cost().parameters)


def edits(graph: Graph) -> dict[str, Callable[[Graph], object]]:
    layers = free_layers(graph)
    acts = [n.name for n in graph.nodes if isinstance(n.op, ops.Activation) and len(graph.shapes()[n.name]) == 4]
    middle = layers[len(layers) // 2]

    def size(g: Graph) -> int:
        spaces = Spaces(g)
        return spaces.space(spaces.of(middle)).size

    found: dict[str, Callable[[Graph], object]] = {
        "widen by half": lambda g: widen(g, middle, size(g) + size(g) // 2, seed=1),
        "split 4 units": lambda g: split(g, middle, range(4)),
        "add 8 units": lambda g: add_units(g, middle, 8),
        "narrow by half": lambda g: narrow(g, middle, range(size(g) // 2)),
        "residual block": lambda g: deepen(g, acts[len(acts) // 2]),
    }
    for target in acts[1:]:
        try:
            connect(graph, acts[0], target)
        except GraphError:  # LeNet-5's images are not a whole times larger
            continue
        found["branch"] = lambda g, target=target: connect(g, acts[0], target)
        break
    return found


def costs() -> list[str]:
    lines = ["| network | edit | ms | ordinary steps (batch 32) |", "|---|---|---|---|"]
    nets = {"LeNet-5": zoo.lenet5(), "ResNet-18, 32 × 32": zoo.get("resnet18", num_classes=10, image_size=32)}
    for name, graph in nets.items():
        for kind, make in edits(graph).items():
            spent, steps = [], []
            for repeat in range(4):
                live, step = stepper(graph, 32)
                step()
                steps.append(timed(step))
                if repeat:  # the first builds what is cached, for both
                    spent.append(timed(lambda live=live, make=make: live.apply(make(live.graph))))
            cost, one = statistics.median(spent), statistics.median(steps)
            lines.append(f"| {name} | {kind} | {1e3 * cost:.1f} | {cost / one:.2f} |")
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    saved = savings()
    spent = costs()
    head = [
        "# Structured edits: what they save and what they cost",
        "",
        f"`python benchmarks/grow_speed.py`; {platform.machine()}, one thread, torch {torch.__version__}; CPU time, "
        "medians of 15 interleaved pairs of steps, of 3 edits on fresh networks.",
        "",
        "## A training step before and after layers are narrowed to half (goal: at least 0.7)",
        "",
        *saved,
        "",
        "## An edit, made and applied with its optimiser (goal: below 20 steps)",
        "",
        *spent,
    ]
    RESULT.write_text("\n".join(head) + "\n")


if __name__ == "__main__":
    main()
