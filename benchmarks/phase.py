"""How fast and how right the mean-field theory is, against the usual scipy.integrate.quad script.

Run: OMP_NUM_THREADS=1 python benchmarks/phase.py [--json FILE]. One process, one core; each line is the median of
several runs after one warm-up, in seconds of processor time (other work on the machine does not count, but slows the
processor down). The script to beat is kept below as people publish it: quad for the averages, brentq for the fixed
points, dblquad for correlations (timed on few cells and scaled). Whether every cell is right is what phase_cells.py
checks.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from scipy import integrate, optimize

import depthscale as ds
from depthscale.theory.activations import Activation
from depthscale.theory.named import NAMED

SW2, SB2 = np.linspace(0.5, 3.0, 200), np.linspace(0.0, 0.25, 200)
LINE = np.geomspace(1e-2, 10.0, 50)


# --- the script -----------------------------------------------------------------------------------------------------


def gauss(f: Callable[[float], float], q: float) -> float:
    s = np.sqrt(q)
    return integrate.quad(lambda z: np.exp(-z * z / 2) / np.sqrt(2 * np.pi) * f(s * z), -10, 10)[0]


def quad_line(q: np.ndarray) -> np.ndarray:
    sw2 = np.array([1 / gauss(lambda x: (1 - np.tanh(x) ** 2) ** 2, v) for v in q])
    sb2 = np.array([v - w * gauss(lambda x: np.tanh(x) ** 2, v) for v, w in zip(q, sw2, strict=True)])
    return np.stack([sw2, sb2])


def quad_cell(sw2: float, sb2: float) -> tuple[float, float, float]:
    q = optimize.brentq(lambda v: sw2 * gauss(lambda x: np.tanh(x) ** 2, v) + sb2 - v, 1e-9, 50.0)
    chi1 = sw2 * gauss(lambda x: (1 - np.tanh(x) ** 2) ** 2, q)
    if chi1 <= 1:
        return q, 1.0, chi1

    def gap(c: float) -> float:
        def inside(z2: float, z1: float) -> float:
            u1, u2 = np.sqrt(q) * z1, np.sqrt(q) * (c * z1 + np.sqrt(1 - c * c) * z2)
            return float(np.exp(-(z1 * z1 + z2 * z2) / 2) / (2 * np.pi) * np.tanh(u1) * np.tanh(u2))

        return (sw2 * integrate.dblquad(inside, -8, 8, -8, 8, epsabs=1e-8)[0] + sb2) / q - c

    return q, optimize.brentq(gap, 0.0, 1 - 1e-3, xtol=1e-6), chi1


# --- measuring ------------------------------------------------------------------------------------------------------


def seconds(work: Callable[[], Any], repeats: int = 15, warm: bool = True) -> float:
    if warm:
        work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


def fresh(name: str) -> Activation:
    """An activation that nobody has seen before: empty caches."""
    formula = NAMED[name]()
    return Activation(name, (), formula.f, formula.df, formula.kinks, formula.closed)


def callables() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    def kinks_and_jump(x: np.ndarray) -> np.ndarray:
        return np.where(x < -0.7, x / 5 - 0.56, np.where(x < 0.4, x, np.where(x < 1.3, 0.4, np.tanh(x))))

    return {
        "tanh(x) + sin(3x)/10": lambda x: np.tanh(x) + 0.1 * np.sin(3 * x),
        "x/(1 + exp(-1.3 x))": lambda x: x / (1 + np.exp(-np.clip(1.3 * x, -700, 700))),
        "max(x, -0.2)": lambda x: np.maximum(x, -0.2),
        "two kinks and a jump": kinks_and_jump,
    }


def measure_line() -> dict[str, float]:
    ours = ds.critical_line("tanh", q=LINE)
    theirs, slow = quad_line(LINE), seconds(lambda: quad_line(LINE), 3)
    tight = np.array([_tight(v) for v in LINE]).T
    return {
        "ours_ms": 1e3 * seconds(lambda: ds.critical_line("tanh", q=LINE), 100),
        "ours_by_sb2_ms": 1e3 * seconds(lambda: ds.critical_line("tanh", sb2=SB2[1::4]), 50),
        "quad_ms": 1e3 * slow,
        "ours_error": float(np.max(np.abs(ours.sw2.value / tight[0] - 1))),
        "quad_error": float(np.max(np.abs(theirs[0] / tight[0] - 1))),
    }


def _tight(q: float) -> tuple[float, float]:
    """The same by a trapezoid of 4001 nodes, exact to rounding for tanh at these q."""
    z = np.linspace(-14, 14, 4001)
    w = np.exp(-z * z / 2)
    w /= w.sum()
    sw2 = 1 / float(w @ np.cosh(np.sqrt(q) * z) ** -4)
    return sw2, q - sw2 * float(w @ np.tanh(np.sqrt(q) * z) ** 2)


def measure_diagrams() -> dict[str, dict[str, float]]:
    out: dict[str, dict[str, float]] = {}
    for name in sorted(set(NAMED) - {"linear", "quadratic", "heaviside", "swish", "threshold"}):  # once each
        act = fresh(name)
        first = seconds(lambda a=act: ds.phase_diagram(a, sw2=SW2, sb2=SB2), 1, warm=False)
        again = seconds(lambda a=act: ds.phase_diagram(a, sw2=SW2, sb2=SB2), 5)
        out[name] = {"first_s": first, "warm_s": again}
    for name, f in callables().items():
        ds.activation("tanh")
        out[name] = {"first_s": seconds(lambda f=f: ds.phase_diagram(f, sw2=SW2, sb2=SB2), 1, warm=False)}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    line, diagrams = measure_line(), measure_diagrams()
    cell = [seconds(lambda w=w: quad_cell(w, 0.05), 1, warm=False) for w in (1.0, 2.5)]
    share = 0.4  # of the cells are chaotic and need dblquad
    result = {
        "machine": f"{platform.processor() or platform.machine()}, one core",
        "versions": f"depthscale {ds.__version__}, numpy {np.__version__}, scipy {scipy.__version__}",
        "critical line of tanh, 50 points": line | {"times_faster": line["quad_ms"] / line["ours_ms"]},
        "diagram 200 x 200": diagrams,
        "the same by quad and dblquad, extrapolated, hours": 40_000 * ((1 - share) * cell[0] + share * cell[1]) / 3600,
    }
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
