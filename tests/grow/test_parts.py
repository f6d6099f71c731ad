"""Branches taken out of concatenations: the network computes what it computed if nobody read them."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings

from depthscale import zoo
from depthscale.build import build
from depthscale.errors import GraphError
from depthscale.graph import Builder, Graph, blocks, edit, laws, ops
from depthscale.grow import Live, branches, drop_branch
from tests.grow.test_edits import alike, data, dense, live, out
from tests.grow.test_structure import networks


def inception() -> Graph:
    """Three branches side by side, then everything that has a parameter per unit, flattened."""
    net = Builder()
    x = net.input(2, 6, 6)
    a = x.then(ops.Conv(3, (1, 1))).then(ops.Activation("relu"))
    b = x.then(ops.Conv(2, (3, 3), padding=(1, 1)))
    c = x.then(ops.MaxPool((3, 3), (1, 1), (1, 1))).then(ops.Conv(4, (1, 1)))
    x = a.then(ops.Concat(1), b, c).then(ops.BatchNorm()).then(ops.PReLU(per_channel=True))
    x = x.then(ops.Conv(9, (3, 3), groups=9)).then(ops.Scale(1, laws.Normal(1.0))).then(ops.AvgPool((2, 2)))
    return net.graph(x.then(ops.Flatten()).then(ops.Linear(5)).then(ops.Activation("tanh")).then(ops.Linear(3)))


def hourglass() -> Graph:
    """Down, up again, and a copy from before beside it."""
    net = Builder()
    x = net.input(2, 8, 8).then(ops.Conv(4, (3, 3), padding=(1, 1))).then(ops.Activation("gelu"))
    y = x.then(ops.MaxPool((2, 2))).then(ops.Conv(5, (3, 3), padding=(1, 1))).then(ops.Upsample((2, 2)))
    x = x.then(ops.Concat(1), y).then(ops.Conv(3, (3, 3))).then(ops.Reduce(axes=(2, 3)))
    return net.graph(x.then(ops.Linear(3)))


NETS = {"dense": dense, "inception": inception, "hourglass": hourglass}


def concats(graph: Graph) -> list[tuple[str, str]]:
    return [(j, b) for j, b in branches(graph) if isinstance(graph[j].op, ops.Concat)]


def read_columns(graph: Graph, join: str, branch: str) -> dict[str, np.ndarray]:
    """Columns of every layer's weight that read the branch through this concatenation, by autograd: in a network whose
    mixing weights are zero, gradients reach ``join`` through what keeps units apart alone.
    """

    def smooth(node):
        return ops.Activation("tanh") if isinstance(node.op, ops.Activation) else node.op

    one = live(edit.map_ops(graph, smooth))
    mixing = [n for n in graph.nodes if isinstance(n.op, ops.Linear | ops.Conv) and getattr(n.op, "groups", 1) == 1]
    with torch.no_grad():
        for n in mixing:
            one.module.get_parameter(f"{n.name}.weight").zero_()
    seen = one.module.intermediates(data(graph), of=sorted({join, *(n.inputs[0] for n in mixing)}))
    at = graph[join].inputs.index(branch)
    sizes = [graph.shapes()[i][1] for i in graph[join].inputs]
    low, high = sum(sizes[:at]), sum(sizes[: at + 1])
    found = {}
    for n in mixing:
        x = seen[n.inputs[0]]
        columns = np.zeros(x.shape[1], bool)
        for c in range(x.shape[1]) if x.requires_grad else ():
            (slope,) = torch.autograd.grad(x[:, c].sum(), seen[join], retain_graph=True, allow_unused=True)
            columns[c] = slope is not None and bool(slope[:, low:high].any())
        found[n.name] = columns
    return found


def check(graph: Graph, join: str, branch: str) -> None:
    one, x = live(graph), data(graph)
    columns = read_columns(graph, join, branch)
    with torch.no_grad():
        for name, gone in columns.items():
            one.module.get_parameter(f"{name}.weight")[:, torch.from_numpy(gone)] = 0
    before = out(one.module, x)
    less = one.apply(drop_branch(graph, join, branch))
    alike(before, out(less.module, x), 1e-11)
    assert less.graph.cost().parameters < graph.cost().parameters
    assert less.lineage[-1].kind == "drop"
    for name, gone in columns.items():
        if name in less.graph.by_name:
            assert less.module.get_parameter(f"{name}.weight").shape[1] == int((~gone).sum())


@pytest.mark.parametrize("name", NETS)
def test_what_is_dropped_is_what_nobody_reads(name):
    graph = NETS[name]()
    found = concats(graph)
    assert len(found) == {"dense": 6, "inception": 3, "hourglass": 2}[name]
    for join, branch in found:
        check(graph, join, branch)


def test_columns_by_hand():
    """The first block of a dense network: 4 units of the stem, then 3 of each block, read by all that follow."""
    graph = dense()
    first = next(n for n in graph.nodes if isinstance(n.op, ops.Concat))
    found = {n: np.flatnonzero(c).tolist() for n, c in read_columns(graph, first.name, first.inputs[1]).items()}
    assert sorted(map(len, found.values())) == [0, 0, 3, 3, 3 * 64]
    assert [c for c in found.values() if c] == [[4, 5, 6], [4, 5, 6], list(range(4 * 64, 7 * 64))]
    graph = drop_branch(graph, first.name, first.inputs[1]).graph
    assert first.name not in graph.by_name  # one branch alone needs no joining
    assert [graph.shapes()[n.name][1] for n in graph.nodes if isinstance(n.op, ops.Concat)] == [7, 10]


@given(networks())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_random_networks_without_a_branch(graph):
    for join, branch in concats(graph)[:3]:
        check(graph, join, branch)


@pytest.mark.parametrize("name", NETS)
def test_moments_follow(name):
    graph = NETS[name]()
    join, branch = concats(graph)[-1]
    columns = read_columns(graph, join, branch)
    module = build(graph, 0)
    optimiser = torch.optim.AdamW(module.parameters(), 1e-2)
    one, x = Live(module, optimiser), data(graph, 8).float()
    for _ in range(3):
        optimiser.zero_grad()
        out(one.module, x).square().mean().backward()
        optimiser.step()
    old = {n: (p.detach().clone(), dict(optimiser.state[p])) for n, p in module.named_parameters()}
    less = one.apply(drop_branch(graph, join, branch))
    held = {id(p) for g in optimiser.param_groups for p in g["params"]}
    assert held == {id(p) for p in less.module.parameters()}
    for n, p in less.module.named_parameters():
        gone = columns.get(n.removesuffix(".weight"))
        value, state = old[n]
        kept = slice(None) if gone is None or n.endswith("bias") else torch.from_numpy(~gone)
        if len(value) == len(p):  # not one that has an entry per unit that went
            assert torch.equal(p, value[:, kept] if value.dim() > 1 else value)
            for key in ("exp_avg", "exp_avg_sq"):
                now = optimiser.state[p][key]
                assert torch.equal(now, state[key][:, kept] if value.dim() > 1 else state[key])
        assert optimiser.state[p]["step"] == state["step"]
    for _ in range(2):
        optimiser.zero_grad()
        out(less.module, x).square().mean().backward()
        optimiser.step()
    assert bool(torch.isfinite(out(less.module, x)).all())


def test_what_cannot_be_left_out_is_said():
    net = Builder()
    x = net.input(2, 6, 6)
    y = x.then(ops.Conv(4, (1, 1))).then(ops.Concat(1), x.then(ops.Conv(2, (1, 1))))
    normed = net.graph(blocks.linear(blocks.global_pool(y.then(ops.GroupNorm(2))), 3))
    join = next(n for n in normed.nodes if isinstance(n.op, ops.Concat))
    with pytest.raises(GraphError, match="cannot be left out: .* averages over them with others"):
        drop_branch(normed, join.name, join.inputs[1])
    net = Builder()
    x = net.input(3)
    last = net.graph(x.then(ops.Linear(2)).then(ops.Concat(1), x.then(ops.Linear(4))))
    join = next(n for n in last.nodes if isinstance(n.op, ops.Concat))
    with pytest.raises(GraphError, match="they are the network's outputs"):
        drop_branch(last, join.name, join.inputs[1])
    net = Builder()
    x = net.input(3)
    y = x.then(ops.Linear(2)).then(ops.Concat(1), x.then(ops.Linear(4))) + x.then(ops.Linear(6))
    summed = net.graph(y.then(ops.Linear(3)))
    join = next(n for n in summed.nodes if isinstance(n.op, ops.Concat))
    with pytest.raises(GraphError, match="joins them with something else"):
        drop_branch(summed, join.name, join.inputs[1])
    with pytest.raises(GraphError, match="which .* joins, got"):
        drop_branch(summed, join.name, summed.outputs[0])
    assert concats(last) == concats(summed) == []
    assert concats(zoo.get("resnet20", image_size=8)) == []
