"""Single connections: densities, who goes and who comes, and that the rest of training knows."""

import math

import pytest
import torch

from depthscale import zoo
from depthscale.build import build
from depthscale.errors import GraphError
from depthscale.graph import all_parameters
from depthscale.grow import Live, free_layers, narrow, widen
from depthscale.grow.masks import densities, keep_largest, maskable, regrow, sparsify, swap
from depthscale.grow.training import work


def sparse(density: float = 0.3) -> Live:
    graph = zoo.mlp((20, 30, 10, 4))
    module = build(graph, 0)
    live = Live(module, torch.optim.AdamW(module.parameters(), 1e-2))
    return sparsify(live, densities(graph, density), 1)


@pytest.mark.parametrize("density", [0.05, 0.3, 0.9, 1.0])
def test_densities_are_erdos_renyi_and_add_up(density):
    graph = zoo.lenet5()
    found = densities(graph, density)
    shapes = {n: all_parameters(graph)[n].shape for n in maskable(graph)}
    whole = sum(math.prod(s) for s in shapes.values())
    assert sum(found[n] * math.prod(s) for n, s in shapes.items()) == pytest.approx(density * whole, rel=1e-6)
    ratios = {n: found[n] * math.prod(s) / sum(s) for n, s in shapes.items() if found[n] < 1}
    assert max(ratios.values(), default=1) == pytest.approx(min(ratios.values(), default=1))
    with pytest.raises(GraphError, match="density above 0"):
        densities(graph, 0.0)


def test_operations_are_counted_by_density():
    live = sparse(0.3)
    by_hand = sum(int(m.sum()) for m in live.masks.values())  # a linear layer: one multiply-add a connection
    assert work(live.graph, live.masks) == pytest.approx(by_hand)
    assert live.parameters == by_hand + 30 + 10 + 4


def test_swaps_drop_the_weakest_and_grow_by_gradient():
    live = sparse()
    named = dict(live.module.named_parameters())
    before = {n: m.clone() for n, m in live.masks.items()}
    sizes = {n: named[n].detach().abs().clone() for n in before}
    generator = torch.Generator().manual_seed(3)
    gradients = {n: torch.rand(named[n].shape, generator=generator) for n in before}
    swap(live, 0.25, gradients)
    for n, mask in live.masks.items():
        k = int(0.25 * int(before[n].sum()))
        assert int(mask.sum()) == int(before[n].sum())
        weakest = torch.sort(sizes[n][before[n]]).values[:k]
        gone = before[n] & ~mask
        assert set(sizes[n][gone].tolist()) <= set(weakest.tolist())
        came = mask & ~before[n]
        idle = ~before[n] & ~mask
        if came.any():  # what was dropped may come back, where its gradient is large
            assert gradients[n][came].min() >= gradients[n][idle].max()
        assert not named[n][came].any()  # so the function is only moved by what was dropped
        assert not named[n][~mask].any()


def test_growing_connections_changes_nothing_at_first():
    live = sparse()
    x = torch.randn(5, 20)
    before = live.module(x)
    more = regrow(live, {n: torch.rand_like(live.module.get_parameter(n)) for n in live.masks}, 500)
    assert sum(int(m.sum()) for m in more.masks.values()) == 500
    torch.testing.assert_close(more.module(x), before)
    fewer = keep_largest(more, {n: live.module.get_parameter(n).detach().abs() for n in live.masks}, 200)
    assert sum(int(m.sum()) for m in fewer.masks.values()) == 200
    with pytest.raises(GraphError, match="expected to keep 1 to"):
        keep_largest(more, {n: live.module.get_parameter(n).detach().abs() for n in live.masks}, 0)


def test_masks_go_through_edits_and_steps():
    live = sparse()
    layer = free_layers(live.graph)[0]
    x = torch.randn(8, 20)
    before = live.module(x).detach()
    live = live.apply(widen(live.graph, layer, 45, tilt=0.0))
    torch.testing.assert_close(live.module(x), before)
    live = live.apply(narrow(live.graph, layer, range(40)))
    for _ in range(3):
        live.optimiser.zero_grad()
        live.module(x).square().mean().backward()
        live.optimiser.step()
        live.enforce()
    for n, mask in live.masks.items():
        weight = live.module.get_parameter(n)
        assert mask.shape == weight.shape
        assert not weight.detach()[~mask].any()
        assert not live.optimiser.state[weight]["exp_avg"][~mask].any()


def test_a_network_that_is_born_sparse_stays_as_critical_as_it_was_drawn():
    graph = zoo.mlp((128, *[128] * 15, 10))
    x = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
    dense, thin = build(graph, 0), build(graph, 0)
    sparsify(Live(thin, torch.optim.SGD(thin.parameters(), 0.1)), densities(graph, 0.15), 1)
    scale = float((thin(x).detach().square().mean() / dense(x).detach().square().mean()).log())
    assert abs(scale) < 6  # some 19 inputs a unit: ±2 by chance; unscaled, e^-30 would be left of it
    for name in maskable(graph):
        rows = [dict(m.named_parameters())[name].detach().square().sum(1).mean() for m in (thin, dense)]
        assert float(rows[0] / rows[1]) == pytest.approx(1.0, abs=0.25)
