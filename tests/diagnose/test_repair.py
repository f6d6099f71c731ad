"""Repairs: isometry and linearity at the start against autograd, what is left alone, and that networks then train."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import depthscale as ds
from benchmarks.networks import REPAIR
from depthscale.capture import trace
from depthscale.diagnose import check, repair
from depthscale.diagnose.pairs import is_odd, pairing
from depthscale.diagnose.structure import Structure
from depthscale.errors import DepthscaleError

G = torch.Generator().manual_seed(0)
X = torch.randn(32, 64, generator=G)


def plain(depth: int, act: type[nn.Module], width: int = 16) -> nn.Sequential:
    torch.manual_seed(0)
    widths = [64, *[width] * (depth - 1), 10]
    layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), act())]
    return nn.Sequential(*layers[:-1])


def layer_norms(model: nn.Sequential, x: torch.Tensor) -> list[float]:
    """Mean squares at the outputs of the linear layers, by running the model."""
    found = []
    for layer in model:
        x = layer(x)
        if isinstance(layer, nn.Linear):
            found.append(float(x.detach().square().mean()))
    return found


@pytest.mark.parametrize("act", [nn.ReLU, nn.GELU, nn.SiLU, nn.Softplus, nn.Hardswish])
def test_functions_with_a_linear_odd_part_start_linear(act: type[nn.Module]) -> None:
    model = plain(20, act)
    result = repair(model, X)
    assert result.mended
    a, b = X[:8], X[8:16]
    with torch.no_grad():
        together = model(0.6 * a + 0.8 * b)
        assert torch.allclose(together, 0.6 * model(a) + 0.8 * model(b), atol=2e-3 * float(together.abs().max()))
    jacobian = torch.autograd.functional.jacobian(lambda x: model(x[None])[0], X[0])
    # eight directions pass (half of 16 units), all of them by the same factor up to what pairs hold of the data
    values = torch.linalg.svdvals(jacobian)[:8]
    assert float(values[0] / values[7]) < 1.05


@pytest.mark.parametrize("act", [nn.Tanh, nn.Sigmoid])
def test_odd_functions_keep_lengths_and_all_directions(act: type[nn.Module]) -> None:
    model = plain(20, act)
    assert repair(model, X).mended
    lengths = layer_norms(model, X)[:-1]
    assert max(lengths) / min(lengths) < 1.3
    gaussian = copy.deepcopy(model)
    for layer in gaussian:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, (2.0 if act is nn.Tanh else 4.0) * 0.5 / layer.in_features**0.5)
    model.double(), gaussian.double()
    assert spectrum_width(model) < spectrum_width(gaussian) / 10


def spectrum_width(model: nn.Sequential) -> float:
    """Largest over smallest singular value of the Jacobian at one input, up to the last hidden layer."""
    jacobian = torch.autograd.functional.jacobian(lambda x: model[:-1](x[None])[0], X[0].double())
    values = torch.linalg.svdvals(jacobian)
    return float(values[0] / values[-1])


def test_what_theory_sees_afterwards_is_what_the_model_does() -> None:
    model = plain(30, nn.GELU)
    result = repair(model, X)
    seen = layer_norms(model, X)
    told = [r.q for r in result.after.rows if type(r.op).__name__ == "Linear"]
    assert len(told) == len(seen)
    assert told[-1] == pytest.approx(seen[-1], rel=1.0)
    again = check(model, X)  # read off the repaired model by itself
    assert again.trains
    assert again.totals.gradient_ratio == pytest.approx(result.after.totals.gradient_ratio, rel=1e-6)


@pytest.mark.parametrize(
    "name", ["gated 40", "stacked relu 40", "tied relu 40", "recurrent relu, 32 steps", "dense 30, N(0, 0.01)"]
)
def test_gates_stacks_ties_and_recurrence_pass_signal_and_gradient(name: str) -> None:
    torch.manual_seed(0)
    model = REPAIR[name].make()
    repair(model, X, force=True)
    x = X.clone().requires_grad_()
    y = model(x)
    (g,) = torch.autograd.grad((y * torch.randn(y.shape, generator=G)).sum(), x)
    assert 0.005 < float(y.detach().square().mean()) < 5
    assert float(g.square().sum()) > 1e-2 * float(y[0].numel())
    norms = [float(p.detach().norm()) for p in model.parameters()]
    assert all(n == n for n in norms)


def test_residual_branches_are_scaled_and_their_trunks_left() -> None:
    torch.manual_seed(0)
    model = REPAIR["residual 50, N(0, 1)/4"].make()
    result = repair(model, X)
    assert result.mended
    with torch.no_grad():
        stem = model.stem(X)
        assert float(model.blocks(stem).square().mean() / stem.square().mean()) < 4
    reasons = {c.path: c.why for c in result.changes}
    assert "1/√L" in reasons["blocks.7.two.weight"]


def test_a_repaired_network_trains_and_the_same_one_unrepaired_does_not() -> None:
    from sklearn.datasets import load_digits

    data, target = load_digits(return_X_y=True)
    x = torch.tensor((data - data.mean()) / data.std(), dtype=torch.float32)
    y = torch.tensor(target)

    def accuracy(model: nn.Module) -> float:
        order = torch.Generator().manual_seed(0)
        optimiser = torch.optim.Adam(model.parameters(), 1e-3)
        for _ in range(60):
            at = torch.randint(0, len(x), (64,), generator=order)
            optimiser.zero_grad()
            F.cross_entropy(model(x[at]), y[at]).backward()
            optimiser.step()
        with torch.no_grad():
            return float((model(x).argmax(1) == y).float().mean())

    sick = plain(30, nn.Tanh, 32)
    mended = copy.deepcopy(sick)
    repair(mended, x[:64])
    assert accuracy(sick) < 0.3
    assert accuracy(mended) > 0.85


def test_healthy_and_trained_models_are_left_alone() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    before = copy.deepcopy(model.state_dict())
    result = repair(model, X)
    assert "healthy and was left alone" in result.message
    assert not result.changes
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    worn = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), *plain(30, nn.ReLU)[2:])
    worn[1](torch.randn(8, 16))
    assert "has been trained" in repair(worn, X).message


def test_frozen_and_kept_parameters_stay() -> None:
    model = plain(30, nn.Tanh)
    model[4].weight.requires_grad_(False)
    kept = {n: model.get_parameter(n).detach().clone() for n in ("4.weight", "6.weight", "6.bias")}
    result = repair(model, X, keep=["6.*"])
    assert all(torch.equal(model.get_parameter(n), v) for n, v in kept.items())
    assert "4.weight" not in {c.path for c in result.changes}
    assert len(result.changes) == 28


def test_what_no_weights_can_mend_is_said() -> None:
    model = nn.Sequential(*[m for layer in plain(40, nn.ReLU) for m in (layer, nn.Dropout(0.5))])
    result = repair(model, X)
    assert not result.mended
    assert "no initialisation mends this" in result.message
    assert any("dropout of at most" in r for r in result.after.remedy)


def test_the_same_seed_gives_the_same_weights_and_torch_s_generator_is_left_alone() -> None:
    one, two = plain(20, nn.ReLU), plain(20, nn.ReLU)
    state = torch.random.get_rng_state()
    repair(one, X, seed=3)
    repair(two, X, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_graphs_are_built_and_repaired_and_written(tmp_path) -> None:
    from depthscale.build import load_weights
    from depthscale.graph import laws

    graph = ds.zoo.mlp((64, *[32] * 30, 10), "tanh", weight=laws.TORCH_DEFAULT)
    result = ds.repair(graph)
    assert result.mended
    files = result.write(tmp_path / "out")
    assert {f.name for f in files} == {"weights.safetensors", "repair.html", "repair.json"}
    other = ds.build(graph, seed=9)
    load_weights(other, files[0])
    assert torch.equal(other.state_dict()["layer5.linear1.weight"], result.module.state_dict()["layer5.linear1.weight"])
    assert "What was changed" in files[1].read_text()


def test_what_cannot_be_repaired_is_said() -> None:
    with pytest.raises(DepthscaleError, match=r"expected a torch\.nn\.Module or a Graph to repair"):
        repair("model", X)
    with pytest.raises(DepthscaleError, match="expected an example input"):
        repair(nn.Linear(2, 2))
    with torch.device("meta"):
        model = nn.Linear(2, 2)
    with pytest.raises(DepthscaleError, match="meta device"):
        repair(model, torch.randn(4, 2))


class SquarePlus(nn.Module):
    """Written out: the sum in it is a step of the function, not the end of a residual branch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x + torch.sqrt(x * x + 4.0)) / 2


def test_a_sum_inside_a_function_is_a_step_of_it() -> None:
    structure = Structure(trace(plain(4, SquarePlus), X).graph)
    assert [f.root for f in structure.functions.values()] == ["0", "2", "4"]
    assert not structure.residuals
    found = pairing(structure, lambda f: not is_odd(f), lambda _: True)
    assert set(found.functions) == set(structure.functions)


class Reads(nn.Module):
    """A recurrent layer of torch over the rows of pieces of x."""

    def __init__(self, kind: str, steps: int) -> None:
        super().__init__()
        self.steps, self.layer, self.out = steps, getattr(nn, kind)(4, 24, batch_first=True), nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.out(self.layer(x.reshape(len(x), self.steps, 4))[0][:, -1])
        return out


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_recurrent_layers_hear_their_first_step_after_repair(kind: str) -> None:
    """The gradient at the first step over that at the last, by autograd, is of order 1 and was next to nothing."""
    torch.manual_seed(0)
    model, x = Reads(kind, 24), torch.randn(32, 24 * 4)

    def heard() -> float:
        given = x.clone().requires_grad_()
        model(given).square().sum().backward()
        assert given.grad is not None
        energy = given.grad.reshape(32, 24, 4).square().mean((0, 2))
        return float(energy[0] / energy[-1])

    before = heard()
    change = repair(model, x, force=True)
    assert before < 1e-6
    assert 0.02 < heard() < 50
    assert change.after.trains
    if kind != "RNN":
        gate = slice(24, 48)  # of torch's order: the forget gate of an LSTM, the update gate of a GRU
        bias = model.layer.bias_hh_l0.detach()
        torch.testing.assert_close(bias[gate], torch.full((24,), math.log(23)))
        assert not bias[:24].any()


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_stacked_recurrences_have_no_branches(kind: str) -> None:
    """W x + U h of the upper layer is one layer in two pieces, and what a gate lets through is no residual sum."""

    class Stacked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.out = getattr(nn, kind)(4, 16, 2, batch_first=True), nn.Linear(16, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.out(self.layer(x)[0][:, -1])
            return out

    torch.manual_seed(0)
    model, x = Stacked(), torch.randn(16, 12, 4)
    structure = Structure(trace(model, x).graph)
    assert not structure.residuals
    assert set(structure.carried.steps.values()) == ({11, 12} if kind == "GRU" else {11} if kind == "LSTM" else set())
    assert repair(model, x, force=True).after.trains
