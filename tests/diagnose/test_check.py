"""Verdicts on networks whose fate is known, the place of a planted fault, and what a diagnosis can be turned into."""

import json
import math

import numpy as np
import pytest
import torch

import depthscale as ds
from depthscale.diagnose import check
from depthscale.diagnose.examine import closed_gains, moments_of
from depthscale.diagnose.pairs import odd_spread
from depthscale.diagnose.structure import Function, Structure
from depthscale.errors import DepthscaleError
from depthscale.graph import Builder, edit, laws, ops


def deep(act: str, weight: laws.Law, depth: int = 30, bias: laws.Law = laws.ZERO) -> ds.Graph:
    return ds.zoo.mlp((64, *[64] * depth, 10), act, weight=weight, bias=bias)


@pytest.mark.parametrize(
    ("graph", "kind"),
    [
        (deep("tanh", laws.TORCH_DEFAULT), "vanishing"),
        (deep("relu", laws.Normal(0.01)), "vanishing"),
        (deep("relu", laws.Normal(1.0)), "exploding"),
        (deep("tanh", laws.variance(16.0)), "chaotic"),
        (deep("tanh", laws.variance(0.3), 40, laws.Normal(0.5)), "ordered"),
        (deep("relu", laws.HE, 6, laws.Constant(-4.0)), "dead"),
        (deep("relu", laws.HE, 10), "trains"),
        (deep("tanh", laws.LECUN, 20), "trains"),
    ],
)
def test_verdicts_of_textbook_networks(graph: ds.Graph, kind: str) -> None:
    found = check(graph)
    assert found.kind == kind, found.reason
    assert found.trains == (kind == "trains")
    assert bool(found.cause) == (kind != "trains")


@pytest.mark.parametrize("name", ["alexnet", "resnet152", "inception_v3", "vgg16_bn", "densenet121", "vit_b_16"])
def test_networks_that_the_world_trained_are_not_condemned(name: str) -> None:
    found = check(ds.zoo.get(name))
    assert found.trains, found.reason


def test_the_planted_layer_is_the_one_that_is_named() -> None:
    name = "layer9.linear1"
    for act, sound, law, kind in (
        ("tanh", laws.LECUN, laws.Normal(1e-7), "vanishing"),
        ("relu", laws.HE, laws.Normal(1e8, fan="in"), "exploding"),
    ):
        found = check(edit.replace(deep(act, sound, 20), name, ops.Linear(64, law)))
        assert found.kind == kind, found.reason
        assert found.where == name


def test_cause_and_remedy_name_the_critical_point() -> None:
    found = check(deep("tanh", laws.TORCH_DEFAULT))
    assert "sw2 = Var W · fan_in = 0.333" in found.cause
    assert "0.125" in found.remedy[0]  # sqrt(1 / 64)


@pytest.mark.parametrize("gate", ["sigmoid", "tanh"])
def test_gates_that_are_saturated_are_judged(gate: str) -> None:
    # slopes behind such weights are so small that their fourth powers vanish
    b, law = Builder(), laws.variance(64.0)
    x = b.input(64)
    for _ in range(30):
        value = x.then(ops.Linear(64, law)).then(ops.Activation("silu"))
        x = value.then(ops.Multiply(), x.then(ops.Linear(64, law)).then(ops.Activation(gate)))
    assert check(b.graph(x.then(ops.Linear(3, law)))).kind == "exploding"


@pytest.mark.parametrize("name", ["silu", "sigmoid", "tanh"])
@pytest.mark.parametrize("q", [0.5, 2.0])
def test_the_spread_of_slopes_is_that_of_the_formula(name: str, q: float) -> None:
    act = ds.activation(name)
    x, w = np.polynomial.hermite_e.hermegauss(64)
    square, fourth = (float((w / w.sum()) @ act.derivative(math.sqrt(q) * x) ** k) for k in (2, 4))
    assert odd_spread(Function("f", act, "x", "f"), q, False) == pytest.approx(fourth / square**2 - 1, rel=1e-9)


def test_zero_gains_are_said_and_judged_open() -> None:
    net = Builder()
    x = net.input(32)
    for _ in range(6):
        with net.scope("block#"):
            branch = x.then(ops.Linear(32, laws.HE)).then(ops.Activation("relu")).then(ops.Linear(32, laws.HE))
            x = x + branch.then(ops.BatchNorm(weight=laws.ZERO))
    graph = net.graph(x.then(ops.Linear(10)))
    assert len(closed_gains(graph)) == 6
    found = check(graph)
    assert found.trains
    assert "6 gains start at zero" in found.notes[0]


def test_an_output_layer_that_starts_at_zero_is_healthy() -> None:
    """As in torchvision's vision transformers: the first step moves it, and then the others."""
    net = Builder()
    x = net.input(32)
    for _ in range(4):
        x = x.then(ops.Linear(32, laws.HE, laws.ZERO)).then(ops.Activation("relu"))
    found = check(net.graph(x.then(ops.Linear(10, laws.ZERO, laws.ZERO))))
    assert found.trains
    assert "linear5 starts at zero" in found.notes[0]


def test_dropout_over_tokens_does_not_drown_them() -> None:
    """The share of the output that other masks leave is that of the same tokens, not of other ones."""
    net = Builder()
    x = net.input(8, dtype="int").then(ops.Embedding(50, 64))
    for _ in range(4):
        x = x + x.then(ops.LayerNorm()).then(ops.Linear(64, laws.LECUN)).then(ops.Dropout(0.1))
    found = check(net.graph(x.then(ops.LayerNorm()).then(ops.Linear(50, laws.LECUN))))
    assert found.trains, found.reason


def test_written_out_functions_are_recognised() -> None:
    net = Builder()
    x = net.input(16).then(ops.Linear(16))
    gate = x.then(ops.Activation("affine", (("scale", 1.7),))).then(ops.Activation("sigmoid"))
    graph = net.graph((x * gate).then(ops.Linear(4)))
    structure = Structure(graph)
    first, last = structure.sites.values()
    assert first.feeds == "function"
    assert first.after is not None
    assert float(first.after.act(2.0)) == pytest.approx(2 / (1 + math.exp(-3.4)))
    assert last.reads == "function"


def test_residual_sums_have_their_trunk_and_branch() -> None:
    structure = Structure(ds.zoo.resnet(18, image_size=32))
    assert len(structure.residuals) == 8
    for residual in structure.residuals.values():
        (end,) = residual.ends
        assert end.endswith("conv2")
    assert sum(bool(r.projection) for r in structure.residuals.values()) == 3


def test_moments_of_a_batch_against_the_naive_formula() -> None:
    g = torch.Generator().manual_seed(1)
    x = torch.randn(6, 3, 5, 5, generator=g) + 0.7 * torch.randn(1, 3, 5, 5, generator=g) + 0.3
    found = moments_of(x)
    assert found is not None
    n = len(x)
    pairs = torch.stack([(x[i] * x[j]).mean() for i in range(n) for j in range(n) if i != j]).mean()
    assert found.c == pytest.approx(float(pairs / x.square().mean()), rel=1e-5)
    y = x - x.mean()
    across = torch.stack([(y[:, i] * y[:, j]).mean() for i in range(3) for j in range(3) if i != j]).mean()
    variance = float(x.square().mean() - x.mean() ** 2)
    assert found.channels == pytest.approx(float(across) / variance, abs=1e-5)
    near = ((y[..., 1:] * y[..., :-1]).mean() + (y[..., 1:, :] * y[..., :-1, :]).mean()) / 2
    assert found.spatial[0] == pytest.approx(float(near) / variance, abs=1e-5)
    assert moments_of(torch.ones(6, 3)) is None


def test_a_diagnosis_is_text_json_and_page(tmp_path) -> None:
    found = check(deep("tanh", laws.TORCH_DEFAULT), name="ours")
    text = str(found)
    assert "◄" in text
    assert len(text.splitlines()) < 60
    page, data = found.write(tmp_path)
    assert json.loads(data.read_text())["verdict"] == "vanishing"
    html = page.read_text()
    assert "layer2.linear1" in html
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert len(found.to_dict()["rows"]) == len(found.rows)


def test_what_cannot_be_checked_is_said() -> None:
    with pytest.raises(DepthscaleError, match=r"expected a torch\.nn\.Module or a Graph"):
        check(3)
    with pytest.raises(DepthscaleError, match="expected an example input for Linear"):
        check(torch.nn.Linear(3, 2))
    with pytest.raises(DepthscaleError, match="expected inputs to be auto"):
        check(deep("relu", laws.HE, 3), inputs="songs")
    with pytest.raises(DepthscaleError, match="at least 4 different rows"):
        check(deep("relu", laws.HE, 3), inputs="batch")


def test_a_module_is_checked_and_the_rows_point_into_it() -> None:
    layers = [torch.nn.Linear(32, 32) for _ in range(40)]
    model = torch.nn.Sequential(*[m for layer in layers for m in (layer, torch.nn.ReLU())], torch.nn.Linear(32, 10))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = check(model, torch.randn(16, 32, generator=torch.Generator().manual_seed(0)))
    assert found.kind == "vanishing"
    assert found.inputs == "the moments of the example batch of 16"
    paths = {r.name.split(".")[0] for r in found.rows}
    assert found.where in {r.name for r in found.rows}
    assert "0" in paths
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_recurrence_is_judged_through_time() -> None:
    from benchmarks.networks import REPAIR

    torch.manual_seed(0)
    model = REPAIR["recurrent relu, 32 steps"].make()
    x = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    found = check(model, x)
    assert found.kind == "vanishing"
    assert "again and again" in found.reason
    ds.repair(model, x)
    assert check(model, x).trains


def test_what_is_measured_lies_beside_what_is_predicted() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(256, 256), torch.nn.ReLU(), torch.nn.Linear(256, 256))
    x = torch.randn(32, 256, generator=torch.Generator().manual_seed(0))
    found = check(model, x, inputs="noise", measure=True)
    for row in found.layers:
        seen = found.measured[row.name]
        assert seen.q == pytest.approx(row.q, rel=0.15)
        assert seen.g == pytest.approx(row.g, rel=0.15)
    assert "q seen" in str(found)
