"""Written source against the built module: same keys, same outputs, same random draws; and short enough to read."""

import ast
import os
import shutil
import subprocess
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from depthscale import zoo
from depthscale.build import build, save, source
from depthscale.build.writing.layout import wrap
from depthscale.build.writing.modules import table
from depthscale.errors import GraphError
from depthscale.graph import Builder, Graph, Node, laws, ops
from depthscale.zoo import registry
from tests.build.examples import CASES
from tests.strategies import graphs


def inputs(graph: Graph, batch: int = 4) -> list[torch.Tensor]:
    g = torch.Generator("cpu").manual_seed(0)
    made = []
    for name in graph.inputs:
        op = graph[name].op
        shape = (batch, *op.shape) if op.batched else op.shape
        made.append(
            torch.randn(shape, generator=g, device="cpu")
            if op.dtype == "float"
            else torch.randint(0, 2, shape, generator=g, device="cpu")
        )
    return made


def model_of(text: str, name: str = "Model") -> torch.nn.Module:
    scope = {"__name__": "written"}
    exec(compile(text, "<written>", "exec"), scope)
    return scope[name]()


def outputs(module: torch.nn.Module, x: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        y = module(*x)
    return y if isinstance(y, tuple) else (y,)


def check(graph: Graph) -> str:
    """The source, which must compute what the module computes in evaluation and in training, to 1e-6."""
    text = source(graph)
    assert max(map(len, text.splitlines())) <= 100
    built, written = build(graph, seed=1), model_of(text)
    written.load_state_dict(built.state_dict(), strict=True)
    x = inputs(graph)
    for mode in (False, True):
        built.train(mode)
        written.train(mode)
        try:
            wanted = outputs(built, x)
        except ValueError as error:  # torch refuses to normalise single elements
            if "Expected more than 1" in str(error):
                return text
            raise
        for a, b in zip(wanted, outputs(written, x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6, equal_nan=True)
    for name, value in written.state_dict().items():  # running statistics
        torch.testing.assert_close(value, built.state_dict()[name], rtol=1e-6, atol=1e-6, equal_nan=True)
    return text


AFFORDABLE = ["mlp", "lenet5", "vgg11_bn", "resnet18", "resnet110_stochastic", "resnetv2_110", "densenet_bc100_k12"]
AFFORDABLE += ["seresnet50", "dpn68", "nasbench101", "nasbench201", "mixer_s32", "vit_ti_16", "randwire_ws"]


@pytest.mark.parametrize("name", AFFORDABLE)
def test_zoo(name):
    entry = registry.entry(name)
    check(entry(image_size=32) if "image_size" in entry.takes else entry())


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in registry.names() if n not in AFFORDABLE])
def test_rest_of_the_zoo(name):
    entry = registry.entry(name)
    graph = None
    for size in ({"image_size": 32}, {"image_size": 96}, {}):
        try:
            graph = entry(**size)
            break
        except GraphError:  # too small an image for it, or it takes none
            continue
    assert graph is not None
    if graph.cost().multiply_adds < 3e9:
        check(graph)
        return
    # too dear to run here: without memory, names and shapes can still be compared
    with torch.device("meta"):
        written = model_of(source(graph))
        wanted = outputs(build(graph, device="meta"), [x.to("meta") for x in inputs(graph)])
        got = outputs(written, [x.to("meta") for x in inputs(graph)])
    assert [y.shape for y in got] == [y.shape for y in wanted]
    state = build(graph, device="meta").state_dict()
    assert {k: v.shape for k, v in written.state_dict().items()} == {k: v.shape for k, v in state.items()}


@pytest.mark.parametrize(
    ("network", "most"), [("lenet5", 40), ("resnet50", 75), ("resnet152", 75), ("densenet201", 80)]
)
def test_length(network, most):
    text = source(registry.entry(network)())
    assert len(text.splitlines()) <= most


@pytest.mark.skipif(shutil.which(os.path.join(sys.prefix, "bin", "ruff")) is None, reason="ruff is not installed")
@pytest.mark.parametrize(
    "name", ["lenet5", "resnet50", "inception_v4", "dpn92", "vit_b_16", "randwire_ws", "nasnetamobile"]
)
def test_a_formatter_changes_nothing(name):
    text = source(registry.entry(name)())
    command = [os.path.join(sys.prefix, "bin", "ruff"), "format", "--isolated", "--line-length", "100", "-"]
    assert subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout == text


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.op)[:50])
def test_every_op(case):
    check(case.graph)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs())
def test_random_graphs(graph):
    check(graph)


SCOPES = ["", "a", "a.b", "a.b.c", "a2", "d1", "d2", "d3", "e.0", "e.1", "e.2.f", "g", "train", "1x"]


@st.composite
def scoped(draw):
    """A random graph whose nodes are strewn over scopes that need not hang together."""
    graph = draw(graphs(most=16))
    labels = SCOPES[:12] if draw(st.integers(0, 9)) else SCOPES
    sticky = draw(st.booleans())
    names: dict[str, str] = {}
    scope = ""
    for node in graph.nodes:
        if not isinstance(node.op, ops.Input):
            if not sticky or not draw(st.integers(0, 2)):
                scope = draw(st.sampled_from(labels))
            names[node.name] = f"{scope}.{node.name}".lstrip(".")
    renamed = [Node(names.get(n.name, n.name), n.op, tuple(names.get(i, i) for i in n.inputs)) for n in graph.nodes]
    computed = [n.name for n in renamed if not isinstance(n.op, ops.Input)]
    extra = draw(st.lists(st.sampled_from(computed), max_size=2))
    final = names.get(graph.outputs[0], graph.outputs[0])
    return Graph(tuple(renamed), tuple(dict.fromkeys([*extra, final])))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scoped())
def test_random_scopes(graph):
    check(graph)


@st.composite
def towers(draw):
    """Blocks of one or two kinds in rows, with numbers, strides and shortcuts that differ."""
    net = Builder()
    x = net.input(draw(st.integers(1, 4)), 8, 8)
    act = draw(st.sampled_from(["relu", "tanh", "gelu"]))
    parts = draw(st.integers(1, 3))
    prefix = draw(st.sampled_from(["block#", "layer#", "stage.block#"]))
    digits = draw(st.booleans())
    drop = draw(st.sampled_from([0.0, 0.2]))
    for i in range(draw(st.integers(1, 9))):
        width = draw(st.sampled_from([2, 2, 3, 4]))
        stride = draw(st.sampled_from([1, 1, 2])) if x.shape[2] > 2 else 1
        with net.scope(f"rows.{i}" if digits else prefix):
            y = x
            for _ in range(parts):
                y = y.then(ops.Conv(width, 3, 1, 1, bias=None)).then(ops.BatchNorm()).then(ops.Activation(act))
            y = y.then(ops.Conv(2 * width, 1, stride))
            if drop:
                y = y.then(ops.Dropout(drop * (i + 1) / 10))
            if stride > 1 or x.channels != 2 * width:
                with net.scope("shortcut"):
                    x = x.then(ops.Conv(2 * width, 1, stride)).then(ops.BatchNorm())
                    if draw(st.booleans()):
                        x = x.then(ops.Activation(act))
            x = y + x if draw(st.integers(0, 5)) else y
    with net.scope("head"):
        return net.graph(x.then(ops.Reduce("mean", (2, 3))).then(ops.Linear(3)))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(towers())
def test_towers(graph):
    check(graph)


def test_cells_of_several_inputs_and_outputs():
    net = Builder()
    before = now = net.input(4)
    for i in range(6):
        with net.scope("cell#"):
            a = before.then(ops.Linear(4 + i % 2)).then(ops.Linear(4))
            b = now.then(ops.Linear(4)).then(ops.Dropout(0.3))
            before, now = now, (a + b) * a
            side = a.then(ops.Subtract(), b)
    text = check(net.graph(now, before + side, side))
    assert text.count("class Cell") == 1


def test_shared_fed_and_tied_parameters():
    net = Builder()
    tokens = net.input(5, dtype="int")
    with net.scope("front"):
        x = tokens.then(ops.Embedding(7, 6), name="table")
        x = x + net.add(ops.Parameter((5, 6)), name="positions")
    for _ in range(5):
        with net.scope("block#"):
            x = x.then(ops.Linear(6, shared="core.one")).then(ops.LayerNorm())
    with net.scope("factor"):
        w = net.add(ops.Parameter((6, 2)), name="u").then(ops.MatMul(), net.add(ops.Parameter((2, 6)), name="v"))
        x = x.then(ops.Linear(6, None, laws.ONE), w)
    with net.scope("same"):
        y = x.then(ops.Multiply(), net.add(ops.Constant((6,), laws.UNIT), name="fixed"))
    text = check(net.graph(y.then(ops.Linear(7, bias=None, shared="front.table"), name="out"), w))
    assert "F.linear(" in text


def test_a_block_used_twice_and_outputs_inside_scopes():
    net = Builder()
    x = net.input(3)
    outs = []
    for _ in range(5):
        with net.scope("step#"):
            x = x.then(ops.Linear(3, shared="step.map"), name="map").then(
                ops.BatchNorm(shared="step.norm"), name="norm"
            )
            outs.append(x)
    check(net.graph(*outs, x.then(ops.Activation("relu"))))


def test_inputs_as_outputs_and_unread_inputs():
    a, b = Node("a", ops.Input((3,))), Node("class.b", ops.Input((2,)))
    y = Node("y", ops.Linear(2), ("a",))
    same = Node("same", ops.Activation("identity"), ("y",))
    check(Graph((a, b, y, same), ("a", "same", "y", "class.b"), ("class.b", "a")))


def test_inputs_called_like_what_the_source_uses():
    net = Builder()
    wires = [net.input(3, name=name) for name in ("_", "range", "F", "self", "float", "x")]
    x = wires[0]
    for wire in wires[1:]:
        x = (x + wire).then(ops.Activation("relu"))
    for _ in range(4):
        with net.scope("block#"):
            x = x.then(ops.Linear(3)).then(ops.LayerNorm()).then(ops.Activation("tanh"))
    check(net.graph(x))


def test_nodes_that_reach_no_output_run_all_the_same():
    """They move running statistics and draw random numbers, in the module as in the source."""
    net = Builder()
    x = net.input(3)
    with net.scope("dead"):
        x.then(ops.Linear(3)).then(ops.BatchNorm()).then(ops.Dropout(0.5))
    with net.scope("half"):
        y = x.then(ops.Linear(3))
        y.then(ops.BatchNorm()).then(ops.Dropout(0.5))
    check(net.graph(y.then(ops.Dropout(0.5))))


def test_parameters_alone():
    check(Graph((Node("p", ops.Parameter((3,))), Node("q", ops.Constant((2, 3))), Node("r", ops.Add(), ("p", "q")))))
    check(Graph((Node("deep.p", ops.Parameter((), laws.ONE)),)))


@pytest.mark.parametrize(
    "name", ["train", "pop", "keys", "half", "class", "_x", "__x", "0", "1a", "self", "forward", "F"]
)
def test_labels_that_are_no_attributes(name):
    x = Node("x", ops.Input((3,)))
    one, two = Node(f"s.{name}", ops.Linear(3), ("x",)), Node(f"{name}.deep", ops.Linear(3), (f"s.{name}",))
    check(Graph((x, one, two)))
    check(Graph((x, one, Node("s.last", ops.Activation("relu"), (one.name,)))))


def test_captured_names():
    """Names as torchvision's models have them: numbers as labels."""
    net = Builder()
    x = net.input(3, 8, 8)
    with net.scope("features"):
        for i, op in enumerate([ops.Conv(4), ops.Activation(), ops.MaxPool(), ops.Conv(5)]):
            x = x.then(op, name=str(i))
    for stage in (1, 2):
        for i in range(4):
            with net.scope(f"layer{stage}.{i}"):
                y = x.then(ops.Conv(5, padding=1), name="conv1").then(ops.BatchNorm(), name="bn1")
                if i == 0:
                    with net.scope("downsample"):
                        x = x.then(ops.Conv(5, 1), name="0").then(ops.BatchNorm(), name="1")
                x = (y + x).then(ops.Activation())
    text = check(net.graph(x.then(ops.Flatten()).then(ops.Linear(2), name="fc")))
    assert "self.layer1 = in_a_row(Layer, " in text
    assert len(text.splitlines()) < 70


def test_order_of_random_draws():
    """Two scopes whose dropouts take turns: written as scopes they would draw in another order."""
    net = Builder()
    a = b = net.input(50)
    for i in range(3):
        with net.scope("left"):
            a = a.then(ops.Linear(50), name=f"l{i}").then(ops.Dropout(0.5), name=f"d{i}")
        with net.scope("right"):
            b = b.then(ops.Linear(50), name=f"l{i}").then(ops.Dropout(0.5), name=f"d{i}")
    check(net.graph(b.then(ops.Divide(), a.then(ops.Activation("exp")))))


def test_draws_keep_their_order_inside_an_expression():
    """Made second, used first: put into one expression they would draw the other way round."""
    net = Builder()
    x = net.input(50)
    first = x.then(ops.Dropout(0.5))
    second = x.then(ops.Dropout(0.5))
    check(net.graph(second.then(ops.Subtract(), first)))


def test_sums_in_parentheses():
    net = Builder()
    a, b, c = (net.input(3, name=name) for name in "abc")
    text = check(
        net.graph(
            a.then(ops.Subtract(), b.then(ops.Subtract(), c)),
            a.then(ops.Subtract(), b + c),
            a.then(ops.Divide(), b.then(ops.Divide(), c)),
            (a + b).then(ops.Multiply(), b.then(ops.Activation("neg"))),
            (a * b) + (b * c),
            (a + b).then(ops.Activation("affine", (("scale", -2.0), ("shift", -1.0)))),
            (a * b).then(ops.Unflatten(1, (3, 1))).then(ops.MatMul(), (b + c).then(ops.Unsqueeze(1))),
        )
    )
    for part in (
        "a - (b - c)",
        "a - (b + c)",
        "a / (b / c)",
        "(a + b) * (-b)",
        "a * b + b * c",
        "-2.0 * (a + b) - 1.0",
    ):
        assert part in text


def test_rows_that_are_read_in_their_middle():
    """A feature pyramid: some results of a row of equal blocks are read elsewhere."""
    for read in ((2,), (0, 3), (4, 5)):
        net = Builder()
        x = net.input(3)
        inner = []
        for _ in range(8):
            with net.scope("block#"):
                x = x.then(ops.Linear(3)).then(ops.LayerNorm()).then(ops.Activation("tanh"))
            inner.append(x)
        check(net.graph(x + inner[read[0]], *(inner[i] for i in read[1:])))


def test_rows_with_a_second_argument():
    """Blocks that all see the same other tensor, in a loop; and blocks that see different ones."""
    net = Builder()
    x, y = net.input(3, name="x"), net.input(3, name="y")
    start = x
    for _ in range(5):
        with net.scope("block#"):
            x = y.then(ops.Linear(3)).then(ops.LayerNorm()).then(ops.Multiply(), x)
    for i in range(5):
        with net.scope("other#"):
            x = x.then(ops.Linear(3)).then(ops.LayerNorm()).then(ops.Multiply(), y if i % 2 else start)
    text = check(net.graph(x + start))
    assert text.count("for i in range") == 2


def test_arguments_are_named_after_what_they_are():
    text = source(zoo.resnet(50))
    assert "def __init__(self, in_channels, width, stride, shortcut):" in text
    assert "nn.Conv2d(width, 4 * width, 1, bias=False)" in text
    assert "y = F.relu(self.norm1(self.conv1(x)))" in text


def test_it_is_deterministic_and_named():
    text = source(zoo.lenet5(), name="LeNet5")
    assert text == source(Graph.from_json(zoo.lenet5().to_json()), name="LeNet5")
    assert "class LeNet5(nn.Module):" in text
    for bad in ("class", "two words", "torch", "load", ""):
        with pytest.raises(GraphError, match="a name that a Python class can have"):
            source(zoo.lenet5(), name=bad)


def test_in_an_environment_with_only_torch_and_safetensors(tmp_path):
    graph = zoo.resnet(18, 10, image_size=8, width=4, stages=(1, 2))
    net = build(graph, 3).eval()
    (tmp_path / "model.py").write_text(source(graph))
    save(net, tmp_path / "model.safetensors")
    (x,) = inputs(graph)
    torch.save(x, tmp_path / "x.pt")
    code = (
        "import sys; sys.modules['depthscale'] = None\n"  # importing it now fails
        "import runpy, torch; runpy.run_path('model.py', run_name='__main__')\n"
        "import model; y = model.load()(torch.load('x.pt'))\n"
        "torch.save(y.detach(), 'y.pt'); print({m.partition('.')[0] for m in sys.modules} & {'numpy_', 'depthscale_'})"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0] == "(1, 10)"
    torch.testing.assert_close(torch.load(tmp_path / "y.pt"), net(x), rtol=1e-6, atol=1e-6)


def test_words_of_a_hostile_graph_are_not_run():
    word = '"); raise SystemExit("pwned'
    graph = Graph((Node("x", ops.Input((2,))), Node("y", ops.Activation("gelu", (("approximate", word),)), ("x",))))
    calls = [n.func.id for n in ast.walk(ast.parse(source(graph))) if isinstance(n, ast.Call) and hasattr(n.func, "id")]
    assert "SystemExit" not in calls


def test_tables():
    assert table([["1", "2"], ["1", "2"], ["3", "4"]]) == "2 * [(1, 2)] + [(3, 4)]"
    assert table([["1"], ["3"], ["5"], ["7"]]) == "[(n,) for n in range(1, 8, 2)]"
    assert table([["7", "a"], ["5", "a"], ["3", "a"], ["1", "a"]]) == "[(n, a) for n in range(7, 0, -2)]"
    assert table([[], []]) == "2 * [()]"


def test_wrapping():
    short = "x = f(a, b)"
    assert wrap(short, 4) == ["    x = f(a, b)"]
    words = [f"argument_number_{i}" for i in range(8)]
    assert wrap(f"x = f({', '.join(words)})") == ["x = f(", *(f"    {w}," for w in words), ")"]
    assert wrap(f"return {' + '.join(words)}")[1:3] == ["    argument_number_0", "    + argument_number_1"]
