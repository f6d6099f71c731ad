"""Every cell of the 200 x 200 diagram of tanh against an oracle that shares nothing with the package.

Run: OMP_NUM_THREADS=1 python benchmarks/phase_cells.py [--json FILE] [--cells N]. The oracle: trapezoidal sums, exact
to rounding for tanh at these lengths (its poles lie at distance π/(2√q) from the real axis: the error is that of
exp(−2π/h · π/(2√q))); the equations that define q*, c*, chi1, chi_q and the slope of the correlation map at c*, checked
at the package's answer, and the distance to the true root by one step of Newton with the oracle's own slopes. Without
a bias, below sw2 = 1, the limit is known: q* = 0, c* = 1, chi1 = sw2. Exits with 1 if a cell is off by 1e-8 or more.
"""

import argparse
import json
import platform
import sys
import time
from pathlib import Path

import numpy as np

import depthscale as ds
from depthscale.theory.phase import CHAOTIC, CRITICAL, ORDERED

Z = np.arange(-60, 61) * 0.15
W = np.exp(-Z * Z / 2)
W /= W.sum()
HALF = np.arange(0, 46) * 0.2  # the difference of two inputs: even, so half of it
V = np.exp(-HALF * HALF / 2)
V[1:] *= 2
V /= V.sum()
SUM = np.arange(-45, 46) * 0.2
U = np.exp(-SUM * SUM / 2)
U /= U.sum()


def singles(q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """E tanh², E tanh'² and d E tanh²/dq at q (B,)."""
    x = np.sqrt(q)[:, None] * Z
    t = np.tanh(x)
    slope = 1 - t * t
    return t**2 @ W, slope**2 @ W, (t * slope * Z / np.sqrt(q)[:, None]) @ W


def pairs(q: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """S = E (tanh u1 − tanh u2)²/(2 q (1 − c)) and E tanh'(u1) tanh'(u2), each (B,)."""
    secant, slopes = np.empty(len(q)), np.empty(len(q))
    for k in range(0, len(q), 200):
        part = slice(k, k + 200)
        a = np.sqrt(q[part] * (1 + c[part]) / 2)[:, None, None] * SUM[None, :, None]
        d = np.sqrt(q[part] * (1 - c[part]) / 2)[:, None, None] * HALF[None, None, :]
        # tanh(a + d) − tanh(a − d) = sinh 2d / (cosh(a + d) cosh(a − d)), without cancellation
        product = 1 / (np.cosh(a + d) * np.cosh(a - d))
        gap = (np.sinh(2 * d) * product) ** 2
        secant[part] = (gap @ V) @ U / (2 * q[part] * (1 - c[part]))
        slopes[part] = (product**2 @ V) @ U
    return secant, slopes


def check(cells: int) -> dict[str, float]:
    """The largest error over all cells, of each quantity."""
    d = ds.phase_diagram("tanh", sw2=np.linspace(0.5, 3.0, cells), sb2=np.linspace(0.0, 0.25, cells))
    w = np.broadcast_to(d.sw2, d.q.shape)
    b = np.broadcast_to(d.sb2[:, None], d.q.shape)
    dead = (b == 0) & (w <= 1)
    worst = {
        "q* = 0, c* = 1, chi1 = sw2 without bias": max(
            np.abs(d.q[dead]).max(), np.abs(d.c[dead] - 1).max(), np.abs(d.chi1[dead] - w[dead]).max()
        )
    }
    live = ~dead
    q, c, sw2, sb2 = d.q[live], d.c[live], w[live], b[live]
    second, slope_second, growth = singles(q)
    chi_q, chi1 = sw2 * growth, sw2 * slope_second
    worst["q*, relative"] = np.max(np.abs(sw2 * second + sb2 - q) / (1 - chi_q) / q)
    worst["chi1"] = np.max(np.abs(chi1 - d.chi1[live]))
    worst["chi_q"] = np.max(np.abs(chi_q - d.chi_q[live]))
    phase = d.phase[live]
    worst["cells of the wrong phase"] = float(np.sum(phase != np.where(chi1 < 1, ORDERED, CHAOTIC)))
    worst["critical cells away from sw2 = 1, sb2 = 0"] = float(np.sum(phase == CRITICAL))
    ordered, chaotic = phase == ORDERED, phase == CHAOTIC
    worst["c* = 1 in the ordered phase"] = np.max(np.abs(c[ordered] - 1))
    secant, slopes = pairs(q[chaotic], c[chaotic])
    slope = np.where(ordered, chi1, 0.0)
    slope[chaotic] = sw2[chaotic] * slopes
    residual = (1 - c[chaotic]) * np.abs(1 - sw2[chaotic] * secant)
    worst["c* in the chaotic phase"] = np.max(residual / (1 - slope[chaotic]))
    worst["slope at c*"] = np.max(np.abs(slope - d.slope[live]))
    worst["xi_c, over xi_c² (the error of its slope)"] = np.max(
        np.abs(-1 / np.log(slope) - d.xi_c[live]) / np.maximum(d.xi_c[live], 1) ** 2
    )
    worst["xi_q, relative"] = np.max(np.abs(-1 / np.log(chi_q) / d.xi_q[live] - 1))
    counts = {"ordered": int(ordered.sum() + dead.sum()), "chaotic": int(chaotic.sum())}
    near = float(np.min(np.abs(chi1 - 1)))
    return {k: float(v) for k, v in worst.items()} | {"cells": counts, "nearest |chi1 − 1|": near}  # type: ignore[dict-item]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--cells", type=int, default=200, help="on a side")
    options = parser.parse_args()
    start = time.process_time()
    worst = check(options.cells)
    result = {
        "machine": f"{platform.processor() or platform.machine()}, one core",
        "versions": f"depthscale {ds.__version__}, numpy {np.__version__}",
        "largest error of any cell": worst,
        "seconds of processor time": round(time.process_time() - start, 1),
    }
    text = json.dumps(result, indent=2, ensure_ascii=False)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    errors = [v for k, v in worst.items() if isinstance(v, float) and not k.startswith("nearest")]
    sys.exit(max(errors) >= 1e-8)


if __name__ == "__main__":
    main()
