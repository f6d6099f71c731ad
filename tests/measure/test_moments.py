"""Measured moments of captured programs: against autograd and plain averages by hand, and beside theory."""

import numpy as np
import pytest
import torch
from torch import nn

import depthscale as ds
from depthscale.capture import trace
from depthscale.errors import TrainingError
from depthscale.measure.moments import measure


def make(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(48, 64), nn.ReLU(inplace=True), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 8))


def test_one_draw_against_autograd_by_hand() -> None:
    module = make(0)
    c = trace(module, torch.randn(6, 48))
    found = measure(c, lambda seed: module, seeds=1)
    draw = torch.Generator().manual_seed(1)
    # the order in which the measurement draws: data, the seed of dropout, cotangents
    torch.randint(2**31, (), generator=draw)
    x = torch.randn(6, 48, generator=draw, requires_grad=True)
    h = module[0](x)
    y = module[4](torch.tanh(module[2](torch.relu(h))))
    cotangent = torch.randn(y.shape, generator=draw)
    gx, gh, gw = torch.autograd.grad(y, [x, h, module[2].weight], cotangent)
    assert found.q["0"][0] == pytest.approx(float(h.detach().square().mean()), rel=1e-5)
    assert found.q["1"][0] == pytest.approx(float(torch.relu(h.detach()).square().mean()), rel=1e-5)
    assert found.mean["1"][0] == pytest.approx(float(torch.relu(h.detach()).mean()), rel=1e-5)
    products = h.detach() @ h.detach().T
    pairs = (products.sum() - products.trace()) / (6 * 5 * 64)
    assert found.c["0"][0] == pytest.approx(float(pairs) / found.q["0"][0], rel=1e-4)
    assert found.g["0"][0] == pytest.approx(float(gh.square().mean()), rel=1e-4)
    assert found.g[c.graph.inputs[0]][0] == pytest.approx(float(gx.square().mean()), rel=1e-4)
    assert found.parameters["2.weight"][0] == pytest.approx(float(gw.square().mean()), rel=1e-4)


def test_theory_stands_beside_the_measurement() -> None:
    c = trace(make(0), torch.randn(8, 48))
    found = measure(c, make, seeds=6)
    said = ds.propagate(c.graph, batch=8)
    assert found.seeds == 6
    for row in said.rows:
        if row.name in c.graph.inputs:
            continue
        assert np.log10(row.q / found.q[row.name].mean()) == pytest.approx(0, abs=0.12)
        assert np.log10(row.g / found.g[row.name].mean()) == pytest.approx(0, abs=0.15)
        assert 0 < found.scatter(found.q, row.name) < 0.1


def test_draws_stop_when_time_is_up_and_one_is_always_made() -> None:
    seen = []
    c = trace(make(0), torch.randn(4, 48))
    found = measure(c, make, seeds=5, seconds=0.0, progress=lambda done, total: seen.append((done, total)))
    assert found.seeds == 1
    assert seen == [(1, 5)]


def test_values_that_are_not_finite_name_the_node() -> None:
    module = make(0)
    c = trace(module, torch.randn(4, 48))
    with torch.no_grad():
        module[2].bias[0] = float("inf")
    with pytest.raises(TrainingError, match="node '2' is not finite"):
        measure(c, lambda seed: module, seeds=1)
    with pytest.raises(TrainingError, match="at least one draw"):
        measure(c, make, seeds=0)
