"""Theory beside neural-tangents and dks, on what each of them can do; both sides measured in one run.

Run: OMP_NUM_THREADS=1 python benchmarks/phase_rivals.py --python RIVALS/bin/python [--json FILE], where RIVALS is an
environment with jax 0.4.30, numpy < 2.3, tf2jax 0.3.6, neural-tangents, absl-py and dks. Times are medians of
processor time after one warm-up call (jitted for neural-tangents; "first" includes its compilation). Errors of averages
are against trapezoidal sums (tanh) and arc-cosine, arcsine and Stein formulas (relu, erf, gelu), all written out here.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Q = 1.3
C = np.cos(np.linspace(0.0, np.pi, 1000))
DEPTH, SW2, SB2 = 50, 1.6, 0.05
IMAGES, CHANNELS, SIDE, LAYERS = 2, 3, 16, 8
DKS_C = 0.5


def seconds(work: Callable[[], Any], repeats: int = 7) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


def once(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    value = work()
    return value, time.process_time() - start


# --- what is true ---------------------------------------------------------------------------------------------------


def truth(name: str, q: float, c: np.ndarray) -> np.ndarray:
    """E[φ(u1) φ(u2)] at c (B,)."""
    theta, k = np.arccos(c), q * c
    det = (1 + q) ** 2 - k * k
    if name == "relu":
        return q * (np.sin(theta) + (np.pi - theta) * c) / (2 * np.pi)
    if name == "erf":
        return 2 / np.pi * np.arcsin(2 * k / (1 + 2 * q))
    if name == "gelu":
        share = 0.25 + np.arcsin(k / (1 + q)) / (2 * np.pi)
        return k * share + (q * q + (k * k - q * k * k) / (1 + q)) / (2 * np.pi * np.sqrt(det))
    z = np.arange(-70, 71) * 0.14
    w = np.exp(-z * z / 2)
    w /= w.sum()
    out = np.empty(len(c))
    for i, r in enumerate(c):
        a, d = np.sqrt(q * (1 + r) / 2) * z[:, None], np.sqrt(q * (1 - r) / 2) * z[None, :]
        out[i] = w @ (np.tanh(a + d) * np.tanh(a - d)) @ w
    return out


# --- the rivals, in their own environment -----------------------------------------------------------------------


def circle(c: np.ndarray, q: float) -> tuple[np.ndarray, np.ndarray]:
    """One point and points at correlations c to it, all of mean square q."""
    one = np.sqrt(2 * q) * np.array([[1.0, 0.0]])
    return one, np.sqrt(2 * q) * np.stack([c, np.sqrt(np.maximum(1 - c * c, 0.0))], axis=1)


def neural_tangents() -> dict[str, Any]:
    import jax

    jax.config.update("jax_enable_x64", True)
    import neural_tangents as nt
    from neural_tangents import stax

    layers = {
        "relu": stax.Relu(),
        "erf": stax.Erf(),
        "gelu": stax.Gelu(),
        "tanh": stax.ElementwiseNumerical(jax.numpy.tanh, deg=25),
        "tanh, 100 nodes": stax.ElementwiseNumerical(jax.numpy.tanh, deg=100),
    }
    out: dict[str, Any] = {"versions": f"neural-tangents {nt.__version__}, jax {jax.__version__}"}
    x1, x2 = circle(C, Q)
    maps, deep = {}, {}
    for name, layer in layers.items():
        # Dense with W_std 1 and no bias hands the inputs' own covariance to the activation
        kernel = jax.jit(stax.serial(stax.Dense(1, W_std=1.0, b_std=0.0), layer)[2], static_argnames="get")
        values = np.asarray(kernel(x1, x2, get="nngp"))[0]
        wrong = np.max(np.abs(values - truth(name.split(",")[0], Q, C)))
        used = seconds(lambda k=kernel: k(x1, x2, get="nngp").block_until_ready())
        maps[name] = {"ms": 1e3 * used, "error": float(wrong)}
        if name == "tanh, 100 nodes":
            continue
        block = (stax.Dense(1, W_std=SW2**0.5, b_std=SB2**0.5), layer)
        net = jax.jit(stax.serial(*(block * DEPTH), block[0])[2], static_argnames="get")
        value, first = once(lambda n=net: np.asarray(n(x1, x2, get="nngp"))[0])
        again = seconds(lambda n=net: n(x1, x2, get="nngp").block_until_ready())
        deep[name] = {"first_s": first, "ms": 1e3 * again, "covariance": value[::100].tolist()}
    conv = (stax.Conv(1, (3, 3), padding="SAME", W_std=2**0.5), stax.Relu())
    image = stax.serial(*(conv * LAYERS), stax.GlobalAvgPool(), stax.Dense(1))[2]
    image = jax.jit(image, static_argnames="get")
    x = np.random.default_rng(0).normal(size=(IMAGES, SIDE, SIDE, CHANNELS))
    k, first = once(lambda: np.asarray(image(x, x, get="nngp")))
    again = seconds(lambda: image(x, x, get="nngp").block_until_ready(), 3)
    return out | {"map": maps, "deep": deep, "conv": {"first_s": first, "ms": 1e3 * again, "q": float(k[0, 0])}}


def dks() -> dict[str, Any]:
    from importlib.metadata import version

    import autograd.numpy as anp
    from dks.base import activation_transform as t

    def measure(work: Callable[[], float]) -> dict[str, float]:
        work()  # its quadrature nodes are made, or read, once
        value, used = once(work)
        return {"value": float(value), "ms": 1e3 * used}

    return {
        "versions": f"dks {version('dks')}",
        "E tanh²": measure(lambda: t._estimate_gaussian_mean(lambda x: np.tanh(x) ** 2)),
        "E tanh'²": measure(lambda: t._calc_c_slope(anp.tanh, q_output=1.0)),
        "E tanh tanh at c = 0.5": measure(lambda: t._calc_c_map(anp.tanh, c=DKS_C, q_output=1.0)),
    }


# --- ours -----------------------------------------------------------------------------------------------------------


def ours() -> dict[str, Any]:
    import depthscale as ds
    from depthscale.graph import Builder, laws, ops
    from depthscale.theory import layer_map

    out: dict[str, Any] = {"versions": f"depthscale {ds.__version__}, numpy {np.__version__}"}
    maps, deep = {}, {}
    for name in ("relu", "erf", "gelu", "tanh"):
        act = ds.activation(name)
        wrong = np.max(np.abs(act.correlation(Q, C) - truth(name, Q, C)))
        maps[name] = {"ms": 1e3 * seconds(lambda a=act: a.correlation(Q, C)), "error": float(wrong)}
        layer = layer_map(name, SW2, SB2)

        def through(layer: Any = layer) -> np.ndarray:
            q, c = SW2 * Q + SB2, (SW2 * Q * C + SB2) / (SW2 * Q + SB2)
            for _ in range(DEPTH):
                q, c = float(layer.length(q)), layer.correlation(c, q)
            return q * c

        value, first = once(through)
        deep[name] = {"first_s": first, "ms": 1e3 * seconds(through), "covariance": value[::100].tolist()}
    b = Builder()
    x = b.input(CHANNELS, SIDE, SIDE)
    width = 64
    for _ in range(LAYERS):
        x = x.then(ops.Conv(width, (3, 3), padding=(1, 1), weight=laws.variance(2.0), bias=None)).then(
            ops.Activation("relu")
        )
    graph = b.graph(x.then(ops.Reduce("mean", (2, 3))).then(ops.Linear(1, weight=laws.variance(1.0), bias=None)))
    p, first = once(lambda: ds.propagate(graph, batch=IMAGES))
    from depthscale.theory import walk

    def cold() -> None:
        walk._cache.clear()
        ds.propagate(graph, batch=IMAGES)

    out["conv"] = {"first_s": first, "ms": 1e3 * seconds(cold), "q": p.rows[-1].q}
    act = ds.activation(np.tanh)
    fresh = {
        "E tanh²": lambda: ds.activation(np.tanh).estimate("second_moment", 1.0),
        "E tanh'²": lambda: ds.activation(np.tanh).estimate("derivative_second_moment", 1.0),
        "E tanh tanh at c = 0.5": lambda: ds.activation(np.tanh).estimate("correlation", 1.0, c=DKS_C),
    }
    single = {k: {"value": float(f()), "ms": 1e3 * seconds(f), "stated error": f().error} for k, f in fresh.items()}
    known = seconds(lambda: act.correlation(1.0, DKS_C))
    return out | {"map": maps, "deep": deep, "single": single, "correlation of a known activation, ms": 1e3 * known}


def table(mine: dict[str, Any], nt: dict[str, Any], other: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for name, row in nt["map"].items():
        own = mine["map"][name.split(",")[0]]
        rows.append({
            "what": f"E[φ(u1) φ(u2)] at 1,000 correlations, {name}", "rival": "neural-tangents",
            "ratio of times": row["ms"] / own["ms"], "ours ms": own["ms"], "its ms": row["ms"],
            "our error": own["error"], "its error": row["error"],
        })  # fmt: skip
    for name, row in nt["deep"].items():
        own = mine["deep"][name]
        apart = np.abs(np.array(own["covariance"]) - np.array(row["covariance"])).max()
        rows.append({
            "what": f"1,000 correlations through {DEPTH} layers, {name}", "rival": "neural-tangents",
            "ratio of times": row["ms"] / own["ms"], "ours ms": own["ms"], "its ms": row["ms"],
            "ratio of first calls": row["first_s"] / own["first_s"], "apart by": float(apart),
        })  # fmt: skip
    own, row = mine["conv"], nt["conv"]
    rows.append({
        "what": f"{LAYERS} 3x3 convolutions on {SIDE}x{SIDE}, ReLU, average pool", "rival": "neural-tangents",
        "ratio of times": row["ms"] / own["ms"], "ours ms": own["ms"], "its ms": row["ms"],
        "ratio of first calls": row["first_s"] / own["first_s"], "our q": own["q"], "its q": row["q"],
    })  # fmt: skip
    exact = float(truth("tanh", 1.0, np.array([DKS_C]))[0])
    for name, own in mine["single"].items():
        row = other[name]
        rows.append({
            "what": f"{name}, q = 1, a callable never seen before", "rival": "dks",
            "ratio of times": row["ms"] / own["ms"], "ours ms": own["ms"], "its ms": row["ms"],
            "apart by": abs(own["value"] - row["value"]), "our stated error": own["stated error"],
        })  # fmt: skip
        if "c =" in name:
            rows[-1] |= {"our error": abs(own["value"] - exact), "its error": abs(row["value"] - exact)}
    return rows


CAN = {
    "depthscale": "any callable (kinks and jumps found), stated errors, all fixed points, critical lines and points, "
    "depth scales, phase diagrams, gradients, batch norm, dropout, graphs of 60 ops; no posterior inference",
    "neural-tangents": "NNGP and NTK of wide networks for given inputs, closed forms or Gauss-Hermite without error; "
    "no fixed points, no critical line, no batch norm, no depth scale",
    "dks": "maps at q = 1 and shifted, scaled activations of about fifteen names; one number a call",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", help="the interpreter of the rivals' environment")
    parser.add_argument("--rivals", action="store_true", help="measure the rivals here (used by the run itself)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    if options.rivals:
        print(json.dumps({"nt": neural_tangents(), "dks": dks()}))
        return
    if not options.python:
        sys.exit("expected --python INTERPRETER of an environment with neural-tangents and dks")
    run = subprocess.run([options.python, __file__, "--rivals"], capture_output=True, text=True, check=False)
    if run.returncode:
        sys.exit(f"the rivals could not be measured:\n{run.stderr[-2000:]}")
    rivals, mine = json.loads(run.stdout.splitlines()[-1]), ours()
    rows = table(mine, rivals["nt"], rivals["dks"])
    for r in rows:
        print(f"{r['ratio of times']:>9.3g} x  {r['what']}  (against {r['rival']})")
    result = {
        "machine": f"{platform.processor() or platform.machine()}, one core",
        "versions": "; ".join((mine["versions"], rivals["nt"]["versions"], rivals["dks"]["versions"])),
        "rows": rows,
        "what each can do": CAN,
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
