"""Edits of live networks: functions stay what they were, gradients and moments split as autograd splits them."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from depthscale import zoo
from depthscale.build import build
from depthscale.errors import DepthscaleError, GraphError
from depthscale.graph import Builder, Graph, blocks, laws, ops
from depthscale.grow import Live, connect, deepen, deepen_identity, free_layers, narrow, widen
from depthscale.grow.live import Source, _taken
from depthscale.grow.spaces import Space, Spaces
from tests.strategies import graphs


def dense() -> Graph:
    net = Builder()
    x = net.input(3, 8, 8)
    x = x.then(ops.Conv(4, (3, 3), padding=(1, 1)))
    for _ in range(3):
        y = x.then(ops.BatchNorm()).then(ops.Activation("relu")).then(ops.Conv(3, (3, 3), padding=(1, 1)))
        x = x.then(ops.Concat(1), y)
    return net.graph(x.then(ops.Flatten()).then(ops.Linear(5)))


def separable() -> Graph:
    net = Builder()
    x = net.input(2, 9, 9)
    for n in (4, 6):
        x = x.then(ops.Conv(n, (1, 1))).then(ops.BatchNorm()).then(ops.PReLU(per_channel=True))
        x = x.then(ops.Conv(n, (3, 3), groups=n)).then(ops.InstanceNorm(weight=laws.ONE, bias=laws.ZERO))
        x = x.then(ops.Scale(1, laws.Normal(1.0)))
    x = x.then(ops.AvgPool((2, 2))).then(ops.Flatten()).then(ops.Linear(6)).then(ops.Activation("tanh"))
    return net.graph(x.then(ops.Linear(3)))


def gated() -> Graph:
    """Squeeze and excitation: the attention's units are the block's."""
    net = Builder()
    x = net.input(3, 6, 6).then(ops.Conv(8, (3, 3), padding=(1, 1))).then(ops.Activation("silu"))
    x = blocks.squeeze_excite(x, 4)
    return net.graph(x.then(ops.Reduce(axes=(2, 3))).then(ops.Linear(4)))


NETS = {
    "mlp": lambda: zoo.mlp((12, 10, 8, 5), "gelu"),
    "cnn": lambda: zoo.lenet5(),
    "vgg": lambda: zoo.vgg(11, 10, image_size=32, norm="batch"),
    "residual": lambda: zoo.get("resnet20", image_size=8),
    "bottleneck": lambda: zoo.resnet(50, 10, image_size=16, stages=(1, 1, 1, 1), width=8),
    "attention": lambda: zoo.get("vit_small_image", image_size=8),
    "dense": dense,
    "separable": separable,
    "gated": gated,
}
SMALL = ["mlp", "cnn", "residual", "dense", "separable", "gated"]


def live(graph: Graph, seed: int = 0) -> Live:
    """A network with parameters and statistics that are nothing special, in evaluation."""
    module = build(graph, seed, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
        for name, b in module.named_buffers():
            if "running" in name:
                b.add_(0.3 * torch.rand(b.shape, generator=generator, dtype=b.dtype))
    return Live(module.eval())


def data(graph: Graph, batch: int = 3) -> torch.Tensor:
    shape = graph.shapes(batch)[graph.inputs[0]]
    return torch.randn(shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def out(module, x):
    y = module(x)
    return torch.cat([t.flatten() for t in (y if isinstance(y, tuple) else (y,))])


def alike(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-12) -> None:
    assert a.shape == b.shape
    a, b = a.detach(), b.detach()
    assert float((a - b).abs().max()) <= tolerance * max(float(a.abs().max()), 1.0)


@pytest.mark.parametrize("name", NETS)
def test_widening_any_space_leaves_the_function_as_it_is(name):
    graph = NETS[name]()
    layers = free_layers(graph)
    assert layers
    rng = np.random.default_rng(0)
    for layer in layers if len(layers) < 6 else rng.choice(layers, 5, replace=False):
        one = live(graph)
        x = data(graph)
        before = out(one.module, x)
        units = graph.shapes()[layer][1 if len(graph.shapes()[layer]) == 4 else -1]
        wide = one.apply(widen(graph, str(layer), units + int(rng.integers(1, 2 * units + 1)), seed=3))
        alike(before, out(wide.module, x))
        assert wide.graph.cost().parameters > graph.cost().parameters


@pytest.mark.parametrize("name", ["mlp", "residual", "dense", "separable"])
def test_copies_are_exact_in_training_too(name):
    graph = NETS[name]()
    one = live(graph)
    one.module.train()
    x = data(graph, 8)
    before = out(one.module, x)  # moves the running statistics as well
    layer = free_layers(graph)[-1]
    wide = one.apply(widen(graph, layer, 17 if name == "mlp" else 2 * spaces_size(graph, layer)))
    alike(before, out(wide.module, x))


def space_of(graph: Graph, layer: str) -> Space:
    spaces = Spaces(graph)
    return spaces.space(spaces.of(layer))


def plain(graph: Graph, layer: str) -> bool:
    """Whether units can go one by one, and nobody averages over them."""
    space = space_of(graph, layer)
    return space.groups == 1 and not space.even


def spaces_size(graph: Graph, layer: str) -> int:
    shape = graph.shapes()[layer]
    return shape[1] if len(shape) == 4 else shape[-1]


@given(graphs(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_random_graphs_widen_exactly(graph, random):
    layers = free_layers(graph)
    if not layers:
        return
    layer = random.choice(layers)
    one, x = live(graph), data(graph)
    before = out(one.module, x)
    size, space = spaces_size(graph, layer), space_of(graph, layer)
    more = size * random.randint(1, 2) if space.even else space.groups * random.randint(1, 5)
    wide = one.apply(widen(graph, layer, size + more, seed=random.randint(0, 9)))
    alike(before, out(wide.module, x), 1e-11)


@given(graphs(), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_random_graphs_narrow_to_what_is_heard(graph, random):
    layers = [n for n in free_layers(graph) if spaces_size(graph, n) > 1 and plain(graph, n)]
    if not layers:
        return
    layer = random.choice(layers)
    narrow_as_silenced(graph, layer, random.sample(range(spaces_size(graph, layer)), 1))


@pytest.mark.parametrize("name", SMALL)
def test_narrowing_is_silencing(name):
    graph = NETS[name]()
    for layer in free_layers(graph)[:3]:
        n = spaces_size(graph, layer)
        narrow_as_silenced(graph, layer, list(range(0, n, 2)))


def narrow_as_silenced(graph: Graph, layer: str, keep: list[int]) -> None:
    """Narrowed, a network computes what it computes when the units that go are not read."""
    one, x = live(graph), data(graph)
    spaces = Spaces(graph)
    at = spaces.of(layer)
    parameters = dict(one.module.named_parameters())
    with torch.no_grad():
        for reader in spaces.space(at).readers:
            offset = 0
            for s, repeat in spaces.read[reader]:
                size = spaces.space(s).size
                for unit in range(size) if s == at else ():
                    if unit not in keep:
                        parameters[f"{reader}.weight"][:, offset + unit * repeat : offset + (unit + 1) * repeat] = 0
                offset += size * repeat
    before = out(one.module, x)
    thin = one.apply(narrow(graph, layer, keep))
    alike(before, out(thin.module, x), 1e-11)
    assert thin.graph.cost().parameters < graph.cost().parameters


@pytest.mark.parametrize("name", SMALL)
def test_gradients_split_as_sources_say(name):
    """What the optimiser's moments are split by, against autograd on the widened network."""
    graph = NETS[name]()
    layer = free_layers(graph)[0]
    change = widen(graph, layer, 2 * spaces_size(graph, layer) + 1, seed=1)
    one, x = live(graph), data(graph)
    out(one.module, x).square().sum().backward()
    old = {n: p.grad.clone() for n, p in one.module.named_parameters()}
    wide = one.apply(change)
    wide.module.zero_grad()
    out(wide.module, x).square().sum().backward()
    for n, p in wide.module.named_parameters():
        takes = change.sources.get(n, Source()).takes
        assert p.grad is not None
        alike(_taken(old[n], takes, power=1), p.grad, 1e-10)
        alike(_taken(old[n] ** 2, takes, power=2), p.grad**2, 1e-10)


@pytest.mark.parametrize("make", [
    lambda p: torch.optim.SGD(p, 0.01, momentum=0.9),
    lambda p: torch.optim.AdamW(p, 1e-3, amsgrad=True),
    lambda p: torch.optim.RMSprop(p, 1e-3, momentum=0.5),
])  # fmt: skip
def test_training_goes_on_through_edits(make):
    torch.manual_seed(0)
    graph = zoo.mlp((6, 8, 8, 3), "relu")
    module = build(graph, 0, dtype=torch.float64)
    one = Live(module, make(module.parameters()))
    x = torch.randn(64, 6, dtype=torch.float64)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()

    def step(one: Live) -> float:
        assert one.optimiser is not None
        held = {id(p) for g in one.optimiser.param_groups for p in g["params"]}
        assert held == {id(p) for p in one.module.parameters()}
        one.optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(one.module(x), y)
        loss.backward()
        one.optimiser.step()
        return float(loss.detach())

    losses = [step(one) for _ in range(20)]
    keys = [graph.key]
    layers = free_layers(graph)
    relu = next(n.name for n in graph.nodes if isinstance(n.op, ops.Activation))
    for edit in (
        lambda g: widen(g, layers[0], 13),
        lambda g: deepen_identity(g, relu),
        lambda g: deepen(g, relu),
        lambda g: connect(g, g.inputs[0], layers[1]),
        lambda g: widen(g, layers[1], 20),
    ):
        with torch.no_grad():
            before = float(torch.nn.functional.cross_entropy(one.module(x), y))
        one = one.apply(edit(one.graph))
        keys.append(one.graph.key)
        after = step(one)
        assert after == pytest.approx(before, rel=1e-10)  # the loss does not jump
        losses += [after, *(step(one) for _ in range(20))]
    assert losses[-1] < 0.8 * losses[0]
    assert [s.before for s in one.lineage] == keys[:-1]
    assert [s.after for s in one.lineage] == keys[1:]
    assert [s.kind for s in one.lineage] == ["widen", "deepen", "deepen", "connect", "widen"]
    assert one.lineage[-1].parameters == sum(p.numel() for p in one.module.parameters())


@pytest.mark.parametrize("name", ["cnn", "residual", "bottleneck", "dense", "attention", "gated"])
def test_the_loss_does_not_jump_in_training(name):
    graph = NETS[name]()
    module = build(graph, 0, dtype=torch.float64).train()
    one = Live(module, torch.optim.AdamW(module.parameters(), 1e-3))
    x = data(graph, 8)
    y = torch.arange(8) % 4

    def loss(one: Live) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(one.module(x).flatten(1), y)

    def steps(one: Live) -> None:
        assert one.optimiser is not None
        for _ in range(3):
            one.optimiser.zero_grad()
            loss(one).backward()
            one.optimiser.step()

    layers = free_layers(graph)
    for layer in (layers[0], layers[-1]):
        steps(one)
        before = loss(one).item()
        one = one.apply(widen(one.graph, layer, 2 * spaces_size(one.graph, layer)))
        assert loss(one).item() == pytest.approx(before, rel=1e-8)
    steps(one)
    assert loss(one).item() < before


def test_parameters_that_are_not_trained_stay_so():
    graph = zoo.mlp((4, 5, 5, 2), "relu")
    module = build(graph, 0)
    first, second, _ = free_layers(graph) + ["", ""][: 3 - len(free_layers(graph))]
    frozen = dict(module.named_parameters())[f"{first}.weight"].requires_grad_(False)
    kept = [p for p in module.parameters() if p is not frozen]
    one = Live(module, torch.optim.SGD(kept, 0.1)).apply(widen(graph, second, 9))
    new = dict(one.module.named_parameters())
    assert not new[f"{first}.weight"].requires_grad
    held = {id(p) for g in one.optimiser.param_groups for p in g["params"]}
    assert id(new[f"{first}.weight"]) not in held
    assert len(held) == len(new) - 1


@pytest.mark.parametrize("name", NETS)
def test_new_branches_change_nothing_at_first_and_learn(name):
    graph = NETS[name]()
    shapes = graph.shapes()
    # behind an activation that itself is behind a layer, in the middle of the network
    acts = [n.name for n in graph.nodes if isinstance(n.op, ops.Activation | ops.PReLU) and len(shapes[n.name]) != 1]
    after = acts[0 if name == "gated" else len(acts) // 2]  # the gate's own units may all be silent
    one, x = live(graph), data(graph)
    before = out(one.module, x)
    deep = one.apply(deepen(graph, after, width=5))
    alike(before, out(deep.module, x))
    out(deep.module, x).square().sum().backward()
    second = next(p for n, p in deep.module.named_parameters() if n.endswith("_block.layer2.weight"))
    assert float(second.grad.abs().max()) > 0
    assert not second.detach().any()


def test_skip_connections_over_stages():
    graph = zoo.get("resnet20", image_size=16)
    acts = [n.name for n in graph.nodes if isinstance(n.op, ops.Add)]
    one, x = live(graph), data(graph)
    before = out(one.module, x)
    far = one.apply(connect(graph, acts[0], acts[-1]))  # 16 × 16 to 4 × 4
    alike(before, out(far.module, x))
    with pytest.raises(GraphError, match="closes a cycle"):
        connect(graph, acts[-1], acts[0])


def test_locked_widths_say_why():
    vit = zoo.get("vit_small_image", image_size=8)
    stream = next(n.name for n in vit.nodes if isinstance(n.op, ops.Conv))
    with pytest.raises(GraphError, match="cannot change"):
        widen(vit, stream, 1000)
    mlp = zoo.mlp((4, 5, 3), "relu")
    last = [n.name for n in mlp.nodes if isinstance(n.op, ops.Linear)][-1]
    with pytest.raises(GraphError, match="outputs"):
        widen(mlp, last, 10)
    first = free_layers(mlp)[0]
    with pytest.raises(GraphError, match="more units than the 5"):
        widen(mlp, first, 5)
    with pytest.raises(GraphError, match="to copy"):
        widen(mlp, first, 7, copied=[0, 9])
    with pytest.raises(GraphError, match="to keep"):
        narrow(mlp, first, [])
    with pytest.raises(GraphError, match="each once"):
        narrow(mlp, first, [1, 1])
    with pytest.raises(GraphError, match="makes units"):
        widen(mlp, mlp.inputs[0], 9)
    gelu = zoo.mlp((4, 5, 3), "gelu")
    act = next(n.name for n in gelu.nodes if isinstance(n.op, ops.Activation))
    with pytest.raises(GraphError, match="passes its own output"):
        deepen_identity(gelu, act)
    lenet = zoo.lenet5()
    with pytest.raises(GraphError, match="two images"):
        connect(lenet, lenet.inputs[0], lenet.outputs[0])


def test_an_optimiser_of_something_else_is_refused():
    graph = zoo.mlp((4, 5, 3), "relu")
    other = torch.nn.Linear(2, 2)
    with pytest.raises(DepthscaleError, match="this module's parameters"):
        Live(build(graph), torch.optim.SGD(other.parameters(), 0.1)).apply(widen(graph, free_layers(graph)[0], 9))
