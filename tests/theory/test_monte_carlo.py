"""Predicted moments against simulated wide networks: forward, backward, correlations and parameter gradients.

A prediction must lie within three standard errors of the simulation plus the stated finite-width term: the square of
the relative deviations ``error`` and ``g_error`` (the bias that fluctuations of that size leave behind) and a floor of
1.5 % for widths of a few hundred units and batches of eight.
"""

import math

import numpy as np
import pytest

import depthscale as ds
from depthscale.graph import Builder, laws, ops
from tests.theory.nets import NETS, act
from tests.theory.simulate import simulate

SEEDS, BATCH, C, FLOOR = 8, 8, 0.2, 0.015


def _off(value: float, measured: np.ndarray, deviation: float) -> float:
    """How far a prediction lies from the mean of the simulations, in units of what is allowed."""
    mean = float(measured.mean())
    scatter = max(float(measured.std(ddof=1)), deviation * abs(value))
    allowed = 3 * scatter / math.sqrt(len(measured)) + abs(value) * (deviation**2 + FLOOR)
    return abs(value - mean) / max(allowed, 1e-12)


@pytest.mark.parametrize("name", NETS)
def test_moments_agree_with_simulation(name: str) -> None:
    graph = NETS[name]()
    p = ds.propagate(graph, batch=BATCH, c_input=C)
    m = simulate(graph, SEEDS, BATCH, C)
    wrong = []
    for row in p.rows:
        if row.name in m.q:
            wrong.append((_off(row.q, m.q[row.name], row.error), row.name, "q", row.q, m.q[row.name].mean()))
        if row.name in m.g:
            deviation = math.hypot(row.g_error, row.error)
            wrong.append((_off(row.g, m.g[row.name], deviation), row.name, "g", row.g, m.g[row.name].mean()))
        if row.name in m.c and not math.isnan(row.c):
            # c is a ratio: what is allowed is a share of 1
            measured = m.c[row.name]
            error = abs(row.c - measured.mean()) / (3 * measured.std(ddof=1) / math.sqrt(SEEDS) + 0.02)
            wrong.append((error, row.name, "c", row.c, measured.mean()))
    for full, measured in m.parameters.items():
        node = next((r for r in p.rows if full.startswith(r.name + ".")), None)
        deviation = 2 * math.hypot(node.g_error, node.error) if node else 0.0
        value = p.gradients[full]
        if value == 0:  # exactly zero in theory: a bias in front of a normalisation
            assert measured.max() < 1e-9 * max(p.gradients.values())
            continue
        wrong.append((_off(value, measured, deviation), full, "θ", value, measured.mean()))
    assert len(wrong) > 10
    bad = [w for w in sorted(wrong, reverse=True) if w[0] > 1]
    assert not bad, "\n".join(
        f"{n} {what}: predicted {a:.4g}, measured {b:.4g} ({o:.2f})" for o, n, what, a, b in bad[:8]
    )


def test_normalised_branches_of_one_activation_meet_again() -> None:
    """What is added is not Gaussian, and slopes agree: moments of values and of gradients (those of gains are not)."""
    b = Builder()
    x = b.input(32, 10, 10).then(ops.Conv(256, 1, weight=laws.LECUN)).then(ops.BatchNorm()).then(act("relu"))
    other = x.then(ops.Conv(256, 1, weight=laws.LECUN)).then(ops.BatchNorm())
    x = (x.then(ops.BatchNorm()) + other).then(act("relu"))
    graph = b.graph(x.then(ops.Conv(64, 1, weight=laws.LECUN)))
    p, m = ds.propagate(graph, batch=BATCH), simulate(graph, SEEDS, BATCH)
    for row in p.rows:
        for value, measured in ((row.q, m.q[row.name]), (row.g, m.g[row.name])):
            noise = 3 * measured.std(ddof=1) / math.sqrt(SEEDS) / measured.mean()
            assert value == pytest.approx(measured.mean(), rel=noise + 0.03), row.name


def test_the_nets_use_every_op() -> None:
    used = {type(node.op) for build in NETS.values() for node in build().nodes}
    missing = sorted(name for name, kind in ops.OPS.items() if kind not in used)
    assert missing == []
