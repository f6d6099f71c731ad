"""The built module as PyTorch users know modules: state_dict, hooks, compile, functional_call, devices, errors."""

import copy
import gc
import io
import math
import pickle
import subprocess
import sys
import weakref

import psutil
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import depthscale as ds
from depthscale import zoo
from depthscale.build import GraphModule, build, memory
from depthscale.build.plan import registers
from depthscale.errors import DepthscaleError, GraphError
from depthscale.graph import Builder, Graph, Node, all_parameters, laws, ops
from tests.strategies import graphs


def data(graph: Graph, batch: int = 2, seed: int = 0) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, *graph[name].op.shape, generator=g) for name in graph.inputs]


def small() -> Graph:
    """A residual network of 8 × 8 images with batch norm."""
    return zoo.resnet(18, 10, image_size=8, width=4, stages=(1, 1))


def test_the_name_build_is_a_room_and_a_function():
    assert isinstance(ds.build(small(), seed=0), GraphModule)
    code = "import depthscale as ds; print(sum(p.numel() for p in ds.build(ds.zoo.lenet5()).parameters()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "61706\n"


def test_state_dict_keys_are_node_names():
    net = build(small())
    names = set(all_parameters(net.graph))
    norms = {n.name for n in net.graph.nodes if isinstance(n.op, ops.BatchNorm)}
    buffers = {f"{n}.{b}" for n in norms for b in ("running_mean", "running_var", "num_batches_tracked")}
    assert set(net.state_dict()) == names | buffers
    assert {name for name, _ in net.named_parameters()} == names
    assert isinstance(net.stage1.block1.conv1, nn.Conv2d)
    assert net.stage2.block1.shortcut.norm1.running_var.tolist() == [1.0] * 8


@settings(max_examples=60, deadline=None)
@given(graphs(), st.integers(1, 3))
def test_random_graphs_have_the_shapes_and_costs_that_were_foretold(graph, batch):
    net = build(graph, seed=0).eval()
    x = data(graph, batch)
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        try:
            values = net.intermediates(*x)
        except ValueError as error:  # torch refuses to normalise single elements
            if "Expected more than 1" in str(error):
                return
            raise
    assert {name: tuple(v.shape) for name, v in values.items()} == graph.shapes(batch)
    cost = graph.cost(batch)
    assert cost.parameters == sum(p.numel() for p in net.parameters())
    assert cost.multiply_adds == flops.get_total_flops() / 2
    out = net(*x)
    assert torch.equal(out, values[graph.outputs[0]])


def test_zoo_cost_is_what_torch_counts():
    graph = small()
    net = build(graph)
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        net(*data(graph, 4))
    assert graph.cost(4).multiply_adds == flops.get_total_flops() / 2


def test_against_a_network_written_by_hand():
    torch_lenet = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10),
    )  # fmt: skip
    net = build(zoo.lenet5(), seed=5)
    torch_lenet.load_state_dict(dict(zip(torch_lenet.state_dict(), net.state_dict().values(), strict=True)))
    x = data(net.graph, 3)
    torch.testing.assert_close(net(*x), torch_lenet(*x))


def test_several_inputs_and_outputs():
    b = Builder()
    left, right = b.input(3, name="left"), b.input(3, name="right")
    both = left.then(ops.Subtract(), right, name="difference")
    net = build(b.graph(both, left + right))
    x, y = torch.ones(2, 3), torch.full((2, 3), 5.0)
    difference, total = net(x, y)
    assert difference.unique().tolist() == [-4]
    assert total.unique().tolist() == [6]
    reordered = Graph(net.graph.nodes, net.graph.outputs, ("right", "left"))
    assert build(reordered)(x, y)[0].unique().tolist() == [4]


def test_an_input_that_nothing_reads_and_an_input_as_output():
    x, unused = Node("x", ops.Input((3,))), Node("unused", ops.Input((2,)))
    y = Node("y", ops.Activation("relu"), ("x",))
    net = build(Graph((x, unused, y), ("x", "y"), ("x", "unused")))
    same, relu = net(-torch.ones(1, 3), torch.ones(1, 2))
    assert same.tolist() == [[-1] * 3]
    assert relu.tolist() == [[0] * 3]


def test_tied_weights():
    """An output layer that shares the embedding's table, and a block applied twice."""
    b = Builder()
    x = b.input(4, dtype="int").then(ops.Embedding(7, 5), name="embed")
    for i in range(2):
        x = x.then(ops.Linear(5, shared="core.twice"), name=f"step{i}").then(ops.Activation("tanh"))
    graph = b.graph(x.then(ops.Linear(7, bias=None, shared="embed"), name="out"))
    net = build(graph)
    state = net.state_dict()
    assert list(state) == ["embed.weight", "core.twice.weight", "core.twice.bias"]
    tokens = torch.tensor([[0, 3, 6, 3]])
    h = state["embed.weight"][tokens]
    for _ in range(2):
        h = (h @ state["core.twice.weight"].T + state["core.twice.bias"]).tanh()
    torch.testing.assert_close(net(tokens), h @ state["embed.weight"].T)
    assert graph.cost().parameters == sum(p.numel() for p in net.parameters()) == 35 + 30


def test_shared_parameters_of_layers_that_differ():
    """The same kernel at two strides, one with a bias of its own kind: the union of tensors is kept."""
    b = Builder()
    x = b.input(2, 6, 6)
    y = x.then(ops.Conv(2, 3, padding=1, weight=laws.HE, bias=None, shared="k"), name="plain")
    graph = b.graph(y.then(ops.Conv(2, 3, 2, weight=laws.HE, bias=laws.ONE, shared="k"), name="strided"))
    net = build(graph)
    assert list(net.state_dict()) == ["k.weight", "k.bias"] or list(net.state_dict()) == ["k.bias", "k.weight"]
    (x,) = data(graph)
    w, bias = net.k.weight, net.k.bias
    torch.testing.assert_close(net(x), torch.conv2d(torch.conv2d(x, w, padding=1), w, bias, stride=2))


def test_sharing_that_cannot_be():
    x = Node("x", ops.Input((4,)))
    a = Node("a", ops.BatchNorm(shared="n"), ("x",))
    with pytest.raises(GraphError, match=r"share 'n' with a BatchNorm.* to be alike"):
        build(Graph((x, a, Node("b", ops.BatchNorm(eps=0.1, shared="n"), ("a",)))))
    inner = Node("s.lin", ops.Linear(4), ("x",))
    with pytest.raises(GraphError, match=r"'s', which is a scope"):
        build(Graph((x, inner, Node("b", ops.Linear(4, shared="s"), ("s.lin",)))))


def test_names_that_modules_and_python_use_themselves():
    b = Builder()
    x = b.input(3, name="forward")
    for name in ("train", "type.half", "0.class", "_program", "_modules", "graph", "self.F", "torch", "m"):
        x = x.then(ops.Linear(3), name=name)
    net = build(b.graph(x))
    assert net.training
    net.eval()
    assert not net.training
    assert net(torch.ones(1, 3)).shape == (1, 3)
    assert "train.weight" in net.state_dict()
    net.load_state_dict(build(net.graph, 1).state_dict(), strict=True)
    assert torch.equal(copy.deepcopy(net)(torch.ones(1, 3)), net(torch.ones(1, 3)))
    with pytest.raises(GraphError, match="'a.training'.*rename"):
        build(b.graph(x.then(ops.Linear(3), name="a.training")))


def test_words_of_a_hostile_graph_are_not_run():
    word = 'none"); raise SystemExit("pwned'
    node = Node("y", ops.Activation("gelu", (("approximate", word),)), ("x",))
    with pytest.raises(RuntimeError, match="approximate"):
        build(Graph((Node("x", ops.Input((2,))), node)))(torch.ones(1, 2))


@pytest.mark.filterwarnings("ignore")
def test_compile_functional_call_autocast_vmap():
    net = build(small()).eval()
    (x,) = data(net.graph)
    y = net(x)
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), y)
    compiled.train()
    assert compiled(x).requires_grad
    net.eval()
    zeros = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    assert not torch.func.functional_call(net, zeros, (x,)).any()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert net(x).dtype == torch.bfloat16
    nets = [build(small(), seed).eval() for seed in range(3)]
    stacked = torch.func.stack_module_state(nets)
    outs = torch.func.vmap(lambda p, b: torch.func.functional_call(net, (p, b), (x,)))(*stacked)
    torch.testing.assert_close(outs, torch.stack([n(x) for n in nets]), rtol=1e-4, atol=1e-5)


def test_export():
    net = build(small()).eval()
    (x,) = data(net.graph)
    program = torch.export.export(net, (x,), dynamic_shapes=(({0: torch.export.Dim("batch")},),))
    more = data(net.graph, 5)
    torch.testing.assert_close(program.module()(*more), net(*more), rtol=1e-5, atol=1e-6)


def test_copies_and_pickles_are_independent():
    net = build(small()).eval()
    (x,) = data(net.graph)
    y = net(x)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(twin(x), y)
        with torch.no_grad():
            twin.head.linear1.weight.zero_()
        assert torch.equal(net(x), y)
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    buffer.seek(0)
    other = build(small(), seed=9).eval()
    assert not torch.equal(other(x), y)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(other(x), y)


def test_layers_can_be_replaced_hooked_and_parametrised():
    net = build(small()).eval()
    (x,) = data(net.graph)
    seen = []
    handle = net.stage1.block1.conv1.register_forward_hook(lambda *args: seen.append(args[2].shape))
    net(x)
    handle.remove()
    assert seen == [(2, 4, 8, 8)]
    nn.utils.parametrizations.weight_norm(net.head.linear1)
    y = net(x)
    net.head.linear1.parametrizations.weight.original0.data *= 2
    torch.testing.assert_close(net(x) - net.head.linear1.bias, 2 * (y - net.head.linear1.bias))
    net.head.linear1 = nn.Linear(8, 3)
    assert net(x).shape == (2, 3)


def test_train_and_eval():
    net = build(small())
    (x,) = data(net.graph, 8)
    net(x)
    norm = net.stem.norm1
    assert norm.num_batches_tracked == 1
    assert norm.running_mean.abs().sum() > 0
    before = norm.running_mean.clone()
    net.eval()
    net(x)
    assert torch.equal(norm.running_mean, before)
    assert torch.equal(net(x[:3]), net(x)[:3]) or torch.allclose(net(x[:3]), net(x)[:3], atol=1e-6)


def test_intermediates():
    net = build(zoo.lenet5())
    x = data(net.graph)
    values = net.intermediates(*x)
    assert list(values) == [n.name for n in net.graph.nodes]
    assert values["input"] is x[0]
    torch.testing.assert_close(values["c1.act1"], net.c1.conv1(x[0]).tanh())
    assert torch.equal(values["head.linear1"], net(*x))
    some = net.intermediates(*x, of=["c3.pool1", "input"])
    assert set(some) == {"c3.pool1", "input"}
    assert torch.equal(some["c3.pool1"], values["c3.pool1"])
    values["c1.act1"].retain_grad()
    values["head.linear1"].sum().backward()
    assert values["c1.act1"].grad.shape == (2, 6, 28, 28)
    assert net.intermediates(*x, of=[]) == {}
    with pytest.raises(GraphError, match="'nowhere'"):
        net.intermediates(*x, of=["nowhere"])


def test_no_more_tensors_are_held_than_needed():
    """A chain of 30 activations under no_grad never holds more than the input and two values."""
    b = Builder()
    x = b.input(1000)
    for _ in range(30):
        x = x.then(ops.Activation("tanh"))
    net = build(b.graph(x))
    alive, peak = weakref.WeakSet(), 0

    class Counting(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            nonlocal peak
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                alive.add(out)
                peak = max(peak, len(alive))
            return out

    with torch.no_grad(), Counting():
        net(torch.ones(1, 1000))
    gc.collect()
    assert peak == 3


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_registers_never_overwrite_what_is_still_read(graph):
    """Run the register plan on symbols and look at what each node reads."""
    where, dropped = registers(graph)
    holds = {where[name]: name for name in graph.inputs}
    for node in graph.nodes:
        assert all(holds[where[source]] == source for source in node.inputs)
        if not isinstance(node.op, ops.Input):
            holds[where[node.name]] = node.name
        for variable in dropped.get(node.name, ()):
            del holds[variable]
    assert [holds[where[name]] for name in graph.outputs] == list(graph.outputs)


def test_a_thousand_layers():
    b = Builder()
    x = b.input(4)
    for _ in range(1000):
        with b.scope("layer#"):
            x = x.then(ops.Linear(4, laws.Orthogonal(), None))
    net = build(b.graph(x), dtype=torch.float64)
    y = net(torch.ones(1, 4, dtype=torch.float64))
    assert y.norm().item() == pytest.approx(2, rel=1e-10)


def test_nothing_touches_the_global_generator():
    state = torch.get_rng_state()
    build(small(), seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_meta_device_allocates_nothing():
    graph = Graph((Node("x", ops.Input((10**6,))), Node("y", ops.Linear(10**6), ("x",))))
    net = build(graph, device="meta")
    assert net(torch.empty(2, 10**6, device="meta")).shape == (2, 10**6)


def test_a_billion_units_are_refused_before_memory_is_touched():
    before = psutil.Process().memory_info().rss
    wide = Graph((Node("x", ops.Input((10**9,))), Node("y", ops.Linear(10**9), ("x",))))
    with pytest.raises(DepthscaleError, match=r"1,000,000,001,000,000,000 parameters.*narrower") as caught:
        build(wide)
    assert "4,000,000 TB" in str(caught.value)
    bare = Graph((Node("x", ops.Input((10**13,))), Node("y", ops.Activation("relu"), ("x",))))
    with pytest.raises(DepthscaleError, match="memory available"):
        build(bare)
    constant = Graph((Node("x", ops.Input((1,))), Node("c", ops.Constant((10**13,))), Node("y", ops.Add(), ("x", "c"))))
    with pytest.raises(DepthscaleError, match="memory available"):
        build(constant)
    assert psutil.Process().memory_info().rss - before < 2**26


def test_container_limits_count(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.available_bytes(torch.device("cpu")) <= psutil.virtual_memory().total
    for name, text in (("max", "1000000\n"), ("current", "900000\n"), ("stat", "anon 1\ninactive_file 50000\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory.available_bytes(torch.device("cpu")) == 150_000
    with pytest.raises(DepthscaleError, match="fits in the 150 kB"):
        build(zoo.lenet5())
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_bytes(torch.device("cpu")) > 150_000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"graph": nn.Linear(2, 2)}, "expected a Graph to build, got Linear"),
        ({"dtype": torch.int64}, "floating-point dtype"),
        ({"dtype": "float32"}, "floating-point dtype"),
        ({"device": "gpu"}, "expected a device of this machine"),
        ({"device": "cuda:99"}, "expected a device of this machine"),
    ],
)
def test_bad_arguments(arguments, said):
    with pytest.raises(DepthscaleError, match=said):
        build(**{"graph": small(), **arguments})


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ((torch.ones(2, 3, 9, 9),), None),  # a convolutional network takes other sizes
        (
            (torch.ones(2, 1, 8, 8),),
            r"input 'input': expected a tensor of shape \(batch, 3, 8, 8\), got \(2, 1, 8, 8\)",
        ),
        ((torch.ones(2, 3, 8),), r"expected a tensor of shape"),
        ((), "expected 1 inputs"),
        ((torch.ones(2, 3, 8, 8), torch.ones(1)), "expected 1 inputs"),
        (([1, 2],), "expected a tensor, got list"),
    ],
)
def test_bad_data(inputs, said):
    net = build(small())
    if said is None:
        assert net(*inputs).shape == (2, 10)
        return
    with pytest.raises(GraphError, match=said):
        net(*inputs)


def test_numbers_in_words():
    assert memory._words(999) == "999 B"
    assert memory._words(1.5e9) == "1.5 GB"
    assert memory._words(math.pi * 1e12) == "3.14 TB"
