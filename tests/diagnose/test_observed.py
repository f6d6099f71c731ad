"""The measured diagnosis: its numbers against autograd and against theory, its verdicts, and what it leaves alone."""

import json

import pytest
import torch
from torch import Tensor, nn

from depthscale.diagnose import check
from depthscale.diagnose.observed import Observed, observe
from depthscale.errors import CaptureError
from depthscale.measure.watched import watch


class Opaque(nn.Module):
    """A plain deep network whose code asks for a value, which no graph can say."""

    def __init__(self, depth: int, gain: float, act: type[nn.Module] = nn.Tanh, width: int = 64) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))
        self.act = act()
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=gain / width**0.5)

    def forward(self, x: Tensor) -> Tensor:
        if float(x.detach().abs().sum()) < 0:
            return x
        for layer in self.layers:
            x = self.act(layer(x))
        return x


def noise(batch: int = 16, width: int = 64) -> Tensor:
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (Opaque(40, 0.5), "vanishing"),
        (Opaque(40, 3.0, nn.ReLU), "exploding"),
        (Opaque(30, 4.0), "chaotic"),
        (Opaque(12, 1.0), "trains"),
        (Opaque(400, 100.0, nn.ReLU), "exploding"),  # overflows
    ],
)
def test_verdicts_on_what_cannot_be_captured(model: nn.Module, kind: str) -> None:
    found = check(model, noise())
    assert isinstance(found, Observed)
    assert found.kind == kind, found.reason
    assert any("decides on values" in n for n in found.notes)
    assert bool(found.cause) == (kind != "trains")
    if kind in ("vanishing", "chaotic"):
        assert found.where.startswith("layers.")
    json.dumps(found.to_dict())
    assert "Measured by hooks" in found.to_html()
    assert found.verdict in str(found)


def test_the_planted_layer_is_the_one_that_is_named() -> None:
    model = Opaque(12, 1.0)
    with torch.no_grad():
        model.layers[7].weight.mul_(1e-7)
    assert check(model, noise()).where == "layers.7"


def test_moments_and_gradients_are_those_of_autograd() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.r, self.b = nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.b(self.r(self.a(x)))
            return out

    torch.manual_seed(0)
    model, x = Two().double(), torch.randn(5, 6, dtype=torch.float64)
    seen = watch(model, (x,), seed=3)
    torch.manual_seed(3)
    leaf = x.clone().requires_grad_()
    h = model.a(leaf)
    out = model.b(torch.relu(h))
    cotangent = torch.randn_like(out)
    g_h, g_x = torch.autograd.grad(out, (h, leaf), cotangent)
    first = seen.calls[0]
    assert [c.path for c in seen.calls] == ["a", "r", "b"]
    assert first.q == pytest.approx(float(h.detach().square().mean()), rel=1e-12)
    assert first.g == pytest.approx(float(g_h.square().mean()), rel=1e-12)  # before the function that writes in place
    assert seen.inputs[0].g == pytest.approx(float(g_x.square().mean()), rel=1e-12)
    pairs = [(h[i] * h[j]).mean() for i in range(5) for j in range(5) if i != j]
    assert first.c == pytest.approx(float(torch.stack(pairs).detach().mean() / h.detach().square().mean()), rel=1e-10)
    assert first.sw2 == pytest.approx(float(model.a.weight.detach().square().mean()) * 6)
    assert seen.calls[1].dead == pytest.approx(float((h <= 0).all(0).double().mean()))


def test_theory_and_what_is_observed_agree_on_a_model_that_both_can_read() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(m for _ in range(10) for m in (nn.Linear(400, 400), nn.Tanh())))
    x = torch.randn(32, 400)
    predicted, seen = check(model, x), observe(model, (x,))
    assert not isinstance(predicted, Observed)
    for row in seen.rows:
        if row.kind == "Linear":
            assert row.q == pytest.approx(predicted_q(predicted, row.name), rel=0.1)
    assert seen.totals.growth_backward == pytest.approx(predicted.totals.growth_backward, rel=0.05)


def predicted_q(diagnosis: object, path: str) -> float:
    found: float = next(r.q for r in diagnosis.rows if r.name == path)  # type: ignore[attr-defined]
    return found


def test_nothing_of_the_model_is_changed() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.LSTM(4, 3)).eval()
    model[3].train()
    x, before = torch.randn(6, 4), {k: v.clone() for k, v in model.state_dict().items()}
    kept, rng = x.clone(), torch.get_rng_state()
    observe(model, (x,))
    assert torch.equal(x, kept)
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [m.training for m in model] == [False, False, False, True]
    assert all(p.grad is None and not p._backward_hooks for p in model.parameters())
    assert all(not m._forward_hooks for m in model.modules())


def test_recurrences_of_the_library_are_observed() -> None:
    """Where no graph is made of them: steps of sequences that are packed, being of different lengths."""

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(50, 16)
            self.cell, self.head = nn.GRU(16, 32, 2, batch_first=True), nn.Linear(32, 4)

        def forward(self, tokens: Tensor) -> Tensor:
            words = nn.utils.rnn.pack_padded_sequence(self.words(tokens), torch.arange(7, 0, -1), batch_first=True)
            out: Tensor = self.head(self.cell(words)[1][-1])
            return out

    torch.manual_seed(0)
    found = check(Reader(), torch.randint(0, 50, (7, 7)))
    assert isinstance(found, Observed)
    assert [r.kind for r in found.layers] == ["Embedding", "GRU", "Linear"]
    assert found.trains


def test_a_model_that_does_not_run_says_so() -> None:
    with pytest.raises(CaptureError, match=r"Opaque fails on its example: RuntimeError: mat1 and mat2"):
        check(Opaque(3, 1.0), torch.randn(4, 5))
