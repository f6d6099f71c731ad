"""Captured graphs against the module itself: built again with the module's weights they compute what it computes."""

import pytest
import torch
from torch import nn

import depthscale as ds
from depthscale.capture import Capture, trace
from depthscale.errors import CaptureError
from depthscale.graph import laws, ops
from tests.capture import models


def rebuilt(c: Capture) -> nn.Module:
    """The graph as a module with the captured module's weights, written through the map of parameters."""
    net = ds.build(c.graph)
    own = dict(net.named_parameters())
    with torch.no_grad():
        for name in c.parameters:
            own[name].copy_(c.tensor(name))
    assert set(own) == set(c.parameters)
    return net


def images(n: int = 3) -> torch.Tensor:
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(0))


CASES = {
    "mlp": (models.mlp, lambda n: torch.randn(n, 6)),
    "residual": (models.Residual, images),
    "transformer": (models.Transformer, images),
    "recurrent": (models.Recurrent, lambda n: torch.randn(n, 4, 3)),
    "stacked": (models.Stacked, lambda n: torch.randn(n, 6)),
    "normed": (models.Normed, lambda n: torch.randn(n, 5, 8)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_captured_graph_computes_what_the_module_computes(name: str) -> None:
    torch.manual_seed(0)
    make, example = CASES[name]
    module = make().eval()
    x = example(3)
    c = trace(module, x)
    assert not module.training
    assert not c.fixed_batch
    net = rebuilt(c).eval()
    for n in (3, 5):  # also at a batch that it was not captured at
        x = example(n)
        torch.testing.assert_close(net(x), module(x), rtol=1e-4, atol=1e-5)
    shapes = c.graph.shapes(7)
    assert shapes[c.graph.outputs[0]][0] == 7
    assert ds.propagate(c.graph, batch=8).rows[-1].q > 0


def test_names_point_into_the_module() -> None:
    module = models.Residual()
    c = trace(module, images())
    assert {"stem.0", "stem.1", "conv1", "norm1", "conv2", "head"} <= set(c.graph.by_name)
    assert c.origins["conv2"].aten == "conv2d"
    assert c.origins["stem.2"].path == "stem.2"
    assert c.parameters["conv1.weight"].names == ("conv1.weight",)
    named = {n for s in c.parameters.values() for n in s.names}
    assert named == {n for n, _ in module.named_parameters()}


def test_writing_through_the_map_changes_the_module() -> None:
    module = models.Stacked()
    c = trace(module, torch.randn(2, 6))
    name = next(n for n, s in c.parameters.items() if s.names == ("weights",))
    with torch.no_grad():
        c.tensor(name).copy_(torch.arange(36.0).view(6, 6))  # (out, in): the module holds (in, out)
    assert torch.equal(module.weights[0], torch.arange(36.0).view(6, 6).T)


def test_shared_and_tied_weights_are_counted_once() -> None:
    module = models.Recurrent()
    c = trace(module, torch.randn(2, 4, 3))
    assert c.graph.cost().parameters == sum(p.numel() for p in module.parameters())
    language = models.Language()
    c = trace(language, torch.randint(11, (2, 5)))
    assert c.graph.cost().parameters == sum(p.numel() for p in language.parameters())
    assert c.tied == (("tokens.weight", "head.weight"),)
    assert isinstance(c.graph["tokens"].op, ops.Embedding)
    assert c.graph[c.graph.inputs[0]].op == ops.Input((5,), "int")


def test_frozen_parameters_are_known() -> None:
    module = models.mlp()
    module[0].weight.requires_grad_(False)
    c = trace(module, torch.randn(2, 6))
    assert c.frozen == {"0.weight"}
    assert c.is_frozen("0.weight")
    assert not c.is_frozen("3.weight")


def test_masks_are_recognised() -> None:
    c = trace(models.Transformer(), images())
    softmax = [n.op for n in c.graph.nodes if isinstance(n.op, ops.Softmax)]
    assert softmax == [ops.Softmax(-1, causal=True)]


def test_laws_are_read_off_the_weights() -> None:
    module = nn.Sequential(nn.Linear(200, 300), nn.ReLU(), nn.Linear(300, 300), nn.LayerNorm(300))
    nn.init.normal_(module[0].weight, std=0.3)
    nn.init.orthogonal_(module[2].weight, 1.7)
    g = ds.capture(module, torch.randn(2, 200))
    first, second, norm = g["0"].op, g["2"].op, g["3"].op
    assert first.weight.mean == 0  # below three standard errors
    assert first.weight.mean_square == pytest.approx(0.09, rel=0.02)
    assert second.weight.orthogonal
    assert second.weight.mean_square == pytest.approx(1.7**2 / 300, rel=1e-4)
    assert norm.weight == laws.ONE
    assert norm.bias == laws.ZERO


def test_weights_computed_from_parameters_are_fed() -> None:
    torch.manual_seed(0)
    layer = torch.nn.utils.parametrizations.weight_norm(nn.Linear(40, 50))
    c = trace(nn.Sequential(layer, nn.Tanh()), torch.randn(2, 40))
    linear = next(n for n in c.graph.nodes if isinstance(n.op, ops.Linear))
    fed = c.graph[linear.inputs[1]]
    assert fed.op.law.mean_square == pytest.approx(float(layer.weight.detach().square().mean()), rel=1e-5)
    source = c.parameters[f"{fed.name}.weight"]
    assert source.steps is None
    assert len(source.names) == 2
    with pytest.raises(CaptureError, match="cannot be written"):
        c.tensor(f"{fed.name}.weight")


def test_control_flow_on_data_is_told_clearly() -> None:
    with pytest.raises(CaptureError, match=r"Branching decides on values of its data \(models.py:\d+.*measured"):
        ds.capture(models.Branching(), torch.randn(2, 4))


def test_a_missing_rule_names_the_operation_and_the_place() -> None:
    with pytest.raises(CaptureError, match="aten.sort at the top of the model"):
        ds.capture(models.Sorting(), torch.randn(2, 4))


def test_what_a_rule_did_not_foresee_is_told_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    from depthscale.capture.mapper import RULES

    monkeypatch.setitem(RULES, "tanh", lambda m, a, node: [][1])
    module = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    with pytest.raises(CaptureError, match=r"tanh in module '1': its rule .*IndexError: list index .*measured"):
        ds.capture(module, torch.randn(2, 4))


def test_bad_input() -> None:
    module = models.mlp()
    with pytest.raises(CaptureError, match="expected a torch.nn.Module to capture, got int"):
        trace(3, torch.randn(2, 6))  # type: ignore[arg-type]
    with pytest.raises(CaptureError, match="Sequential cannot be traced on this example .*"):
        ds.capture(module, torch.randn(2, 7))
    with torch.no_grad():
        module[0].weight[0, 0] = float("nan")
    with pytest.raises(ds.DepthscaleError, match="'0.weight' holds NaN"):
        ds.capture(module, torch.randn(2, 6))


def test_two_inputs_and_two_outputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(5, 4)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"sum": self.a(x) + self.b(y), "only": self.b(y)}

    module = Two()
    x, y = torch.randn(2, 3), torch.randn(2, 5)
    c = trace(module, x, y)
    assert c.graph.inputs == ("x", "y")
    total, only = rebuilt(c)(x, y)
    made = module(x, y)
    torch.testing.assert_close(total, made["sum"])
    torch.testing.assert_close(only, made["only"])


WINDOWS = {
    "reflect": lambda x: torch.nn.functional.pad(x, (2, 1, 0, 3), mode="reflect"),
    "replicate": lambda x: torch.nn.functional.pad(x, (2, 1, 0, 3), mode="replicate"),
    "circular": lambda x: torch.nn.functional.pad(x, (2, 1, 0, 3), mode="circular"),
    "reflection module": nn.ReflectionPad2d(1),
    "unfold an axis": lambda x: x.unfold(2, 4, 2).unfold(3, 3, 1),
    "im2col": nn.Unfold((3, 2), dilation=(1, 2), padding=(1, 0), stride=2),
    "fold": lambda x: torch.nn.functional.fold(
        torch.nn.functional.unfold(x, 3, padding=1, stride=2), (8, 8), 3, padding=1, stride=2
    ),
    "fold dilated": lambda x: torch.nn.functional.fold(
        torch.nn.functional.unfold(x, (3, 2), dilation=(2, 3), stride=(1, 2)), (8, 8), (3, 2), (2, 3), 0, (1, 2)
    ),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_windows_and_mirrors_compute_what_torch_computes(name: str) -> None:
    class Between(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(WINDOWS[name](self.conv(x)))

    module = Between().eval()
    c = trace(module, images())
    assert not c.fixed_batch
    net = rebuilt(c).eval()
    for n in (3, 5):
        torch.testing.assert_close(net(images(n)), module(images(n)))
    assert ds.propagate(c.graph, batch=4).rows[-1].q > 0


class Read(nn.Module):
    """A recurrent layer of torch, and what is made of its outputs and its last states."""

    def __init__(self, kind: str, **options: object) -> None:
        super().__init__()
        self.layer = getattr(nn, kind)(5, 6, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out, last = self.layer(x)
        states = torch.cat([s.movedim(-2, 0).flatten(1) for s in (last if isinstance(last, tuple) else (last,))], 1)
        return torch.cat([(out if self.layer.batch_first else out.transpose(0, 1)).flatten(1), states], 1)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize(
    "options",
    [
        {"batch_first": True},
        {"batch_first": True, "num_layers": 2, "bidirectional": True},
        {"batch_first": True, "bias": False, "num_layers": 2, "dropout": 0.5},
        {"batch_first": True, "proj_size": 3, "num_layers": 2},
        {"batch_first": True, "nonlinearity": "relu"},
    ],
    ids=lambda o: "-".join(o)[12:] or "plain",
)
def test_recurrent_layers_compute_what_torch_computes(kind: str, options: dict[str, object]) -> None:
    if ("proj_size" in options and kind != "LSTM") or ("nonlinearity" in options and kind != "RNN"):
        pytest.skip("torch has no such layer")
    torch.manual_seed(0)
    module, x = Read(kind, **options).eval(), torch.randn(4, 7, 5)
    c = trace(module, x, train=False)
    torch.testing.assert_close(rebuilt(c).eval()(x), module(x), rtol=1e-4, atol=1e-5)
    once = sum(p.numel() for p in module.parameters())
    # biases of the first step, whose state is zeros, are parameters of their own beside those of the later steps
    first = sum(p.numel() for name, p in module.named_parameters() if "bias_hh" in name)
    if kind == "LSTM":
        first = first * 3 // 4  # nothing is there to forget
    assert c.graph.cost().parameters == once + first


def test_steps_that_come_first_and_cells_compute_what_torch_computes() -> None:
    class Cells(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.lstm = nn.GRU(5, 6), nn.LSTMCell(6, 6)
            self.gru, self.rnn = nn.GRUCell(6, 6), nn.RNNCell(6, 6, nonlinearity="relu", bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out, _ = self.layer(x.transpose(0, 1))
            h = c = g = r = torch.zeros_like(out[0])
            for t in out:
                h, c = self.lstm(t, (h, c))
                g = self.gru(h, g)
                r = self.rnn(g, r)
            return r + c

    torch.manual_seed(0)
    module, x = Cells().eval(), torch.randn(4, 7, 5)
    torch.testing.assert_close(rebuilt(trace(module, x, train=False)).eval()(x), module(x), rtol=1e-4, atol=1e-5)


def test_gates_have_laws_of_their_own() -> None:
    module = nn.LSTM(5, 60, batch_first=True)
    with torch.no_grad():
        module.bias_hh_l0.copy_(torch.arange(4.0).repeat_interleave(60))
        module.weight_hh_l0[60:120] *= 3
    c = trace(module, torch.randn(4, 3, 5))
    linear = [n.op for n in c.graph.nodes if isinstance(n.op, ops.Linear)]
    found = {op.bias.value: op.weight for op in linear if isinstance(op.bias, laws.Constant)}
    assert set(found) == {0.0, 1.0, 2.0, 3.0}
    rows = module.weight_hh_l0.detach().square().reshape(4, -1).mean(1)
    for k in range(4):
        law = found[float(k)]
        assert isinstance(law, laws.Measured)
        assert law.mean_square == pytest.approx(float(rows[k]), rel=1e-5)


def test_data_whose_first_axis_is_time_are_told() -> None:
    with pytest.raises(CaptureError, match="first axis of the data to be the examples"):
        trace(nn.GRU(5, 6), torch.randn(7, 4, 5))
