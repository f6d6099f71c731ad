"""Single connections: densities, who goes and who comes, and that the rest of training knows."""

import math

import pytest
import torch

from depthscale import zoo
from depthscale.build import build
from depthscale.errors import GraphError
from depthscale.graph import all_parameters
from depthscale.grow import Live, free_layers, narrow, widen
from depthscale.grow.masks import densities, keep_largest, maskable, prune, regrow, shares, sparsify, swap
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
    live = swap(live, 0.25, gradients)
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


def test_what_is_dropped_and_grown_again_keeps_its_value():
    live = sparse()
    name, mask = next(iter(live.masks.items()))
    weight = live.module.get_parameter(name).detach().clone()
    same = swap(live, 0.5, {n: m.float() + 1 for n, m in live.masks.items()})  # wants back all that was there
    assert torch.equal(same.masks[name], mask)
    assert torch.equal(same.module.get_parameter(name), weight)


def test_growing_connections_changes_nothing_at_first():
    live = sparse()
    x = torch.randn(5, 20)
    before = live.module(x)
    generator = torch.Generator().manual_seed(4)
    gradients = {n: torch.rand(m.shape, generator=generator) for n, m in live.masks.items()}
    counts = shares(live.graph, 500)
    for wish in (gradients, None):
        more = regrow(live, wish, counts, seed=7)
        assert {n: int(m.sum()) for n, m in more.masks.items()} == counts
        torch.testing.assert_close(more.module(x), before)
        assert all(bool(m[live.masks[n]].all()) for n, m in more.masks.items())  # nothing went
    for n, m in regrow(live, gradients, counts).masks.items():
        if not m.all():
            assert gradients[n][m & ~live.masks[n]].min() >= gradients[n][~m].max()
    name = max(counts, key=lambda n: counts[n])
    fewer = prune(more, dict.fromkeys(counts, 7))
    sizes = more.module.get_parameter(name).detach().abs()
    assert int(fewer.masks[name].sum()) == 7
    assert sizes[fewer.masks[name]].min() >= sizes[more.masks[name] & ~fewer.masks[name]].max()


def test_the_largest_of_all_layers_together():
    live = sparse()
    scores = {n: live.module.get_parameter(n).detach().abs() for n in live.masks}
    kept = keep_largest(live, scores, 100)
    assert sum(int(m.sum()) for m in kept.masks.values()) == 100
    level = min(float(scores[n][m].min()) for n, m in kept.masks.items())
    gone = torch.cat([scores[n][live.masks[n] & ~m] for n, m in kept.masks.items()])
    assert float(gone.max()) <= level
    with pytest.raises(GraphError, match="expected to keep 1 to"):
        keep_largest(live, scores, 0)


@pytest.mark.parametrize("connections", [60, 300, 10_000])
def test_connections_are_shared_out_as_erdos_renyi_says(connections):
    graph = zoo.mlp((20, 30, 10, 4))
    specs = all_parameters(graph)
    found = shares(graph, connections)
    whole = sum(specs[n].count for n in found)
    wanted = densities(graph, min(1.0, connections / whole))
    assert all(0 <= wanted[n] * specs[n].count - k < 1 for n, k in found.items())  # whole ones, never more


def test_new_connections_begin_with_the_second_moment_of_the_others():
    live, x = sparse(), torch.randn(8, 20)
    for _ in range(3):
        live.optimiser.zero_grad()
        live.module(x).square().mean().backward()
        live.optimiser.step()
        live.enforce()
    name, mask = next(iter(live.masks.items()))
    state = live.optimiser.state[live.module.get_parameter(name)]
    mean = state["exp_avg_sq"][mask].mean()
    more = regrow(live, None, {n: int(m.sum()) + 5 for n, m in live.masks.items()})
    new = more.masks[name] & ~mask
    assert int(new.sum()) == 5
    torch.testing.assert_close(state["exp_avg_sq"][new], mean.expand(5))
    assert not state["exp_avg"][new].any()


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
