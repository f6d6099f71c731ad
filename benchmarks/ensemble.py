"""How fast an ensemble trains: against a loop of ordinary PyTorch modules, against jax, against its own products.

All arms train the same E networks (same weights, same batches, SGD with momentum, E = 40, batch 64) in one process on
one thread, in turns, so that whatever else the machine does falls on all; times are processor time, ratios are medians
of paired ratios. The final losses and accuracies of the arms are compared, so that nobody is fast by doing less.

    python benchmarks/ensemble.py [--widths 32,64,300] [--depth 20] [--repeats 9] [--out FILE.json]

Prints: (1) the loop's time over the ensemble's per width, and the rate of floating-point operations as a share of the
best batched products of the same shapes; (2) hand-written programs, vmap and members in turn per kind of op;
(3) how cost grows with members, depth and steps. jax takes part where it can be imported.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from depthscale import load_data, zoo
from depthscale.graph import Graph, laws
from depthscale.train import Budget, Member, TrainConfig, train_ensemble
from depthscale.train.ensemble.engines import make_engine, quiet_arithmetic
from depthscale.train.ensemble.memory import chunk_size

MEMBERS, BATCH, LR, MOMENTUM = 40, 64, 0.01, 0.9
TARGETS = {32: 8.0, 64: 4.0, 300: 1.3}
RATE_TARGET = 0.6
CONFIG = TrainConfig(
    budget=Budget(steps=10**6), batch=BATCH, optimiser="sgd", lr=LR, momentum=MOMENTUM, nesterov=False,
    weight_decay=0.0, schedule="constant", warmup=0.0,
)  # fmt: skip
Steps = Callable[[int], None]


def network(width: int, depth: int, act: str = "tanh", **options: Any) -> Graph:
    law = laws.variance(1.76 if act == "tanh" else 2.0)
    return zoo.mlp((64, *[width] * depth, 10), act, input_shape=(1, 8, 8), weight=law, first=law, **options)


class Arm:
    """Networks that are trained by ``run(steps)`` and can be asked for their losses and hits on the training rows."""

    def __init__(self, run: Steps, outputs: Callable[[Tensor], Tensor]) -> None:
        self.run, self.outputs = run, outputs


def batches(x: Tensor, y: Tensor) -> Callable[[int], tuple[Tensor, Tensor]]:
    def batch(step: int) -> tuple[Tensor, Tensor]:
        rows = torch.arange(step * BATCH, (step + 1) * BATCH) % len(x)
        return x[rows], y[rows]

    return batch


def loop_arm(graph: Graph, stack: dict[str, Tensor], batch: Any, members: int) -> Arm:
    """A list of modules, each with its optimiser, trained one step after another as one writes it."""

    def module(e: int) -> nn.Module:
        layers: list[nn.Module] = [nn.Flatten()]
        for node in graph.nodes:
            if type(node.op).__name__ == "Linear":
                w = stack[f"{node.name}.weight"][e]
                layer = nn.Linear(w.shape[1], w.shape[0])
                with torch.no_grad():
                    layer.weight.copy_(w)
                    layer.bias.copy_(stack[f"{node.name}.bias"][e])
                layers.append(layer)
            elif type(node.op).__name__ == "Activation":
                layers.append({"tanh": nn.Tanh, "relu": nn.ReLU}[node.op.function]())
        return nn.Sequential(*layers)

    modules = [module(e) for e in range(members)]
    optimisers = [torch.optim.SGD(m.parameters(), lr=LR, momentum=MOMENTUM) for m in modules]
    at = 0

    def run(steps: int) -> None:
        nonlocal at
        for _ in range(steps):
            x, y = batch(at)
            for m, optimiser in zip(modules, optimisers, strict=True):
                optimiser.zero_grad()
                F.cross_entropy(m(x), y).backward()
                optimiser.step()
            at += 1

    return Arm(run, lambda x: torch.stack([m(x) for m in modules]).detach())


def ensemble_arm(graph: Graph, batch: Any, members: int, which: str, chunk: int) -> Arm:
    """The package's engines, chunk after chunk."""
    parts = [list(range(k, min(k + chunk, members))) for k in range(0, members, chunk)]
    engines = [make_engine(which, graph, [Member(seed=e) for e in part], CONFIG, "classification") for part in parts]
    at = 0

    def run(steps: int) -> None:
        nonlocal at
        with quiet_arithmetic():
            for engine in engines:
                for step in range(at, at + steps):
                    engine.step(*batch(step), 1.0)
        at += steps

    def outputs(x: Tensor) -> Tensor:
        with quiet_arithmetic():
            return torch.cat([e.outputs(x).clone() for e in engines]).mT

    return Arm(run, outputs)


def jax_arm(graph: Graph, stack: dict[str, Tensor], batch: Any) -> Arm | None:
    """jit of vmap of a gradient step, buffers donated."""
    try:
        import jax
        from jax import numpy as jnp
    except ImportError:
        return None
    names = [n.name for n in graph.nodes if type(n.op).__name__ == "Linear"]
    act = jnp.tanh if any(getattr(n.op, "function", "") == "tanh" for n in graph.nodes) else jax.nn.relu
    p = [(jnp.asarray(stack[f"{n}.weight"].numpy()), jnp.asarray(stack[f"{n}.bias"].numpy())) for n in names]

    def forward(p: Any, x: Any) -> Any:
        for k, (w, b) in enumerate(p):
            x = x @ w.T + b
            x = act(x) if k < len(p) - 1 else x
        return x

    def loss(p: Any, x: Any, y: Any) -> Any:
        log_p = jax.nn.log_softmax(forward(p, x))
        return -jnp.take_along_axis(log_p, y[:, None], 1).mean()

    def step(p: Any, v: Any, x: Any, y: Any) -> Any:
        g = jax.grad(loss)(p, x, y)
        v = jax.tree.map(lambda a, b: MOMENTUM * a + b, v, g)
        return jax.tree.map(lambda a, b: a - LR * b, p, v), v

    many = jax.jit(jax.vmap(step, in_axes=(0, 0, None, None)), donate_argnums=(0, 1))
    state = [p, jax.tree.map(jnp.zeros_like, p)]
    at = 0

    def run(steps: int) -> None:
        nonlocal at
        for _ in range(steps):
            x, y = batch(at)
            state[0], state[1] = many(state[0], state[1], jnp.asarray(x.flatten(1).numpy()), jnp.asarray(y.numpy()))
            at += 1
        jax.block_until_ready(state)

    every = jax.vmap(forward, in_axes=(0, None))
    return Arm(run, lambda x: torch.from_numpy(np.array(every(state[0], jnp.asarray(x.flatten(1).numpy())))))


def product_rates(width: int, chunks: list[int]) -> list[Callable[[], float]]:
    """Timers of batched products of a hidden layer's shapes (forward, both gradients): operations a second."""
    timers = []
    for chunk in chunks:
        w, x, h = torch.randn(chunk, width, width), torch.randn(chunk, width, BATCH), torch.empty(chunk, width, BATCH)
        v = torch.zeros(chunk, width, width)
        times = max(1, round(2e8 / (6 * width * width * BATCH * chunk)))

        def timed(w: Tensor = w, x: Tensor = x, h: Tensor = h, v: Tensor = v, times: int = times) -> float:
            start = time.process_time()
            for _ in range(times):
                torch.bmm(w, x, out=h)
                torch.bmm(w.mT, x, out=h)
                torch.bmm(h, x.mT, out=v)
            return 6 * width * width * BATCH * len(w) * times / (time.process_time() - start)

        timers.append(timed)
    return timers


def walking_rate(width: int, depth: int, chunk: int) -> Callable[[], float]:
    """The same products through the buffers of all layers, as a step must walk them."""
    layers = [
        (torch.randn(chunk, width, width), torch.randn(chunk, width, BATCH), torch.zeros(chunk, width, width))
        for _ in range(depth)
    ]
    h = torch.empty(chunk, width, BATCH)
    times = max(1, round(4e8 / (6 * width * width * BATCH * chunk * depth)))

    def timed() -> float:
        start = time.process_time()
        for _ in range(times):
            for w, x, _ in layers:
                torch.bmm(w, x, out=h)
            for w, x, v in reversed(layers):
                torch.bmm(w.mT, x, out=h)
                torch.bmm(h, x.mT, out=v)
        return 6 * width * width * BATCH * chunk * depth * times / (time.process_time() - start)

    return timed


def in_turns(
    arms: dict[str, Arm], steps: dict[str, int], repeats: int, extra: Callable[[], None]
) -> dict[str, list[float]]:
    """Processor seconds per step of every arm, one list entry a round; the first round warms up."""
    found: dict[str, list[float]] = {name: [] for name in arms}
    for repeat in range(repeats + 1):
        names = list(arms) if repeat % 2 else list(arms)[::-1]
        for name in names:
            start = time.process_time()
            arms[name].run(steps[name])
            if repeat:
                found[name].append((time.process_time() - start) / steps[name])
        extra()
    return found


def ratio(a: list[float], b: list[float]) -> float:
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def against(width: int, depth: int, repeats: int, act: str) -> dict[str, Any]:
    """One width: the loop, the engines and jax on the same work."""
    data = load_data("digits")
    x, y = torch.from_numpy(data.train.x), torch.from_numpy(data.train.y)
    graph, batch = network(width, depth, act), batches(x, y)
    members = [Member(seed=e) for e in range(MEMBERS)]
    chunk = chunk_size(graph, CONFIG, members, "dense", "shared", torch.float32, torch.device("cpu"), None)
    with quiet_arithmetic():
        stack = {
            k: v.clone() for k, v in make_engine("dense", graph, members, CONFIG, "classification").stack().items()
        }
    arms = {
        "loop": loop_arm(graph, stack, batch, MEMBERS),
        "dense": ensemble_arm(graph, batch, MEMBERS, "dense", chunk),
        "vmap": ensemble_arm(graph, batch, MEMBERS, "general", MEMBERS),
    }
    if (other := jax_arm(graph, stack, batch)) is not None:
        arms["jax"] = other
    per_round = dict.fromkeys(arms, 2)
    rates: list[list[float]] = []
    timers = product_rates(width, sorted({chunk, min(MEMBERS, 4 * chunk), max(1, chunk // 2)}))
    walk, walked = walking_rate(width, depth, chunk), []

    def products() -> None:
        rates.append([t() for t in timers])
        walked.append(walk())

    times = in_turns(arms, per_round, repeats, products)
    flops = 6.0 * graph.cost(BATCH).multiply_adds * MEMBERS
    best = [max(r) for r in rates[1:]]
    achieved = [flops / t for t in times["dense"]]
    scores = {}
    for name, arm in arms.items():
        out = arm.outputs(x)  # (E, N, C)
        loss = F.cross_entropy(out.flatten(0, 1), y.repeat(MEMBERS)).item()
        scores[name] = {"loss": loss, "accuracy": (out.argmax(2) == y).double().mean().item()}
    return {
        "width": width, "depth": depth, "act": act, "chunk": chunk, "repeats": repeats,
        "milliseconds_per_step": {k: 1e3 * statistics.median(v) for k, v in times.items()},
        "loop_over_dense": ratio(times["loop"], times["dense"]),
        "loop_over_vmap": ratio(times["loop"], times["vmap"]),
        "jax_over_dense": ratio(times["jax"], times["dense"]) if "jax" in times else None,
        "gflops": statistics.median(achieved) / 1e9,
        "best_products_gflops": statistics.median(best) / 1e9,
        "share_of_best_products": statistics.median(a / b for a, b in zip(achieved, best, strict=True)),
        "walking_products_gflops": statistics.median(walked[1:]) / 1e9,
        "share_of_walking_products": statistics.median(a / b for a, b in zip(achieved, walked[1:], strict=True)),
        "steps_taken": (repeats + 1) * 2, "scores": scores,
    }  # fmt: skip


def kinds(repeats: int) -> list[dict[str, Any]]:
    """Per kind of op: hand-written program, vmap, members in turn; milliseconds of a step of 16 members."""
    data = load_data("digits")
    x, y = torch.from_numpy(data.train.x), torch.from_numpy(data.train.y)
    batch, members, found = batches(x, y), 16, []
    cases = {
        "linear + tanh": network(64, 8),
        "linear + relu": network(64, 8, "relu"),
        "linear + gelu": network(64, 8, "gelu"),
        "batch norm": network(64, 8, "relu", norm="batch"),
        "layer norm": network(64, 8, "relu", norm="layer"),
        "residual sums": network(64, 8, "relu", residual=True),
        "convolution": zoo.convnet((2, 2), 16, 10, in_channels=1, image_size=8),
        "convolution + batch norm": zoo.convnet((2, 2), 16, 10, in_channels=1, image_size=8, norm="batch"),
    }
    for name, graph in cases.items():
        which = ["general", "turns"] if "convolution" in name else ["dense", "general", "turns"]
        arms = {w: ensemble_arm(graph, batch, members, w, members) for w in which}
        times = in_turns(arms, dict.fromkeys(arms, 2), repeats, lambda: None)
        found.append({"kind": name, **{w: 1e3 * statistics.median(t) for w, t in times.items()}})
    return found


def growth() -> list[dict[str, Any]]:
    """Processor seconds of whole ensembles while members, depth or steps double."""
    data = load_data("digits")
    found = []
    for members, depth, steps in (
        (20, 20, 50),
        (40, 20, 50),
        (80, 20, 50),
        (20, 40, 50),
        (20, 80, 50),
        (20, 20, 100),
        (20, 20, 200),
    ):
        config = CONFIG.with_(budget=Budget(steps=steps))
        start = time.process_time()
        train_ensemble(network(32, depth), data, members, config=config, score_rows=64)
        seconds = time.process_time() - start
        found.append({"members": members, "depth": depth, "steps": steps, "seconds": seconds,
                      "microseconds_per_member_layer_step": 1e6 * seconds / (members * depth * steps)})  # fmt: skip
    return found


def machine() -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    found = {"cpu": cpu, "capability": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads(),
             "torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version(),
             "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None}  # fmt: skip
    if "jax" in sys.modules:
        found["jax"] = sys.modules["jax"].__version__
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", default="32,64,300")
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--act", default="tanh")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--only", choices=("widths", "kinds", "growth"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {}
    good = True
    if options.only in (None, "widths"):
        result["widths"] = []
        for width in map(int, options.widths.split(",")):
            r = against(width, options.depth, options.repeats, options.act)
            result["widths"].append(r)
            jax = "" if r["jax_over_dense"] is None else f", jax / ensemble {r['jax_over_dense']:.2f}"
            print(
                f"width {width}: loop / ensemble {r['loop_over_dense']:.2f} (target {TARGETS.get(width, 1)}){jax}, "
                f"{r['gflops']:.1f} of {r['best_products_gflops']:.1f} GFLOP/s = {r['share_of_best_products']:.2f} "
                f"(target {RATE_TARGET}), {r['share_of_walking_products']:.2f} of "
                f"products that walk all layers; accuracies {[round(s['accuracy'], 4) for s in r['scores'].values()]}",
                flush=True,
            )
            good = good and r["loop_over_dense"] >= TARGETS.get(width, 1.0)
    if options.only in (None, "kinds"):
        result["kinds"] = kinds(options.repeats)
        for row in result["kinds"]:
            print(
                "ms a step of 16 members:",
                {k: v if isinstance(v, str) else round(v, 2) for k, v in row.items()},
                flush=True,
            )
    if options.only in (None, "growth"):
        result["growth"] = growth()
        for row in result["growth"]:
            print({k: round(v, 3) for k, v in row.items()}, flush=True)
    result["machine"] = machine()
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
