"""Laws recorded on the meta device against the moments of the same constructor run for real."""

import math

import pytest
import torch
from torch import nn

from depthscale.capture import trace
from depthscale.capture.laws import read_law
from depthscale.capture.load import load
from depthscale.capture.recorder import blueprint, recording
from depthscale.errors import CaptureError
from depthscale.graph import laws
from depthscale.graph.laws import Fans

SHAPE = (400, 300)


def by_hand(p: nn.Parameter) -> None:
    """The truncated normal of old: uniform, erfinv, scale, shift, clamp."""
    with torch.no_grad():
        p.uniform_(2 * 0.1587 - 1, 2 * 0.9772 - 1).erfinv_().mul_(0.3 * math.sqrt(2)).add_(0.1).clamp_(-0.2, 0.7)


def copied(p: nn.Parameter) -> None:
    with torch.no_grad():
        p.copy_(torch.randn(SHAPE) * 0.5 + 1)


def half(p: nn.Parameter) -> None:
    with torch.no_grad():
        nn.init.normal_(p, std=2.0)
        p[:100].zero_()


def logs(p: nn.Parameter) -> None:
    with torch.no_grad():
        p.copy_(torch.log(torch.rand(SHAPE) * 3 + 1))


INITIALISERS = {
    "normal": lambda p: nn.init.normal_(p, 0.5, 2.0),
    "uniform": lambda p: nn.init.uniform_(p, -1, 3),
    "kaiming": lambda p: nn.init.kaiming_normal_(p),
    "xavier": lambda p: nn.init.xavier_uniform_(p),
    "truncated": lambda p: nn.init.trunc_normal_(p, std=0.5, a=-0.5, b=0.5),
    "truncated on one side": lambda p: nn.init.trunc_normal_(p, mean=0.2, std=1.0, a=0.0, b=5.0),
    "truncated by hand": by_hand,
    "orthogonal": lambda p: nn.init.orthogonal_(p, 1.5),
    "constant": lambda p: nn.init.constant_(p, 0.7),
    "the last write counts": lambda p: nn.init.zeros_(nn.init.normal_(p)),
    "copied": copied,
    "in part": half,
    "logs of uniforms": logs,
    "identity": lambda p: nn.init.eye_(p),
}


@pytest.mark.parametrize("name", INITIALISERS)
def test_a_recorded_law_has_the_moments_of_what_is_drawn(name: str) -> None:
    torch.manual_seed(0)
    real = nn.Parameter(torch.empty(SHAPE))
    INITIALISERS[name](real)
    with recording() as recorder:
        thin = nn.Parameter(torch.empty(SHAPE))
        INITIALISERS[name](thin)
    assert thin.device.type == "meta"
    law = recorder.law(thin)
    assert law is not None
    mean, square = law.moments(SHAPE, Fans(1, 1))
    x = real.detach().double()
    n = x.numel()
    assert mean == pytest.approx(float(x.mean()), abs=5 * float(x.std()) / math.sqrt(n) + 1e-6)
    error = 5 * float(x.square().std()) / math.sqrt(n)
    assert square == pytest.approx(float(x.square().mean()), abs=error + 1e-6 * max(square, 1e-3))


def test_laws_have_their_names() -> None:
    with recording() as recorder:
        p = nn.Parameter(torch.empty(SHAPE))
        nn.init.orthogonal_(p, 1.5)
        orthogonal = recorder.law(p)
        nn.init.trunc_normal_(p, std=0.5, a=-1.0, b=1.0)
        truncated = recorder.law(p)
        nn.init.trunc_normal_(p, std=0.02)
        wide = recorder.law(p)
    assert isinstance(orthogonal, laws.Orthogonal)
    assert orthogonal.gain == pytest.approx(1.5)
    assert isinstance(truncated, laws.TruncatedNormal)
    assert (truncated.std, truncated.cut) == pytest.approx((0.5, 2.0))
    assert wide == laws.Normal(0.02)


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        angles = torch.arange(4.0)[:, None] / 100 ** (torch.arange(0, 8, 2) / 8)
        self.register_buffer("table", torch.cat((angles.sin(), angles.cos()), 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x + self.table)


def test_small_buffers_keep_their_values() -> None:
    with recording() as recorder:
        module = Positions()
    plan = blueprint(module, recorder)
    torch.testing.assert_close(plan.values("buffer", "table"), Positions().table)
    c = trace(module, torch.randn(3, 4, 8), laws=plan.laws, values=plan.values)
    constant = next(n.op for n in c.graph.nodes if type(n.op).__name__ == "Constant")
    assert constant.law.mean_square == pytest.approx(float(Positions().table.square().mean()), rel=1e-5)
    assert c.graph["layer"].op.weight.bound == pytest.approx(8**-0.5)


def test_tensors_of_numbers_are_known() -> None:
    with recording() as recorder:
        module = nn.Module()
        module.scale = nn.Parameter(torch.tensor([1.0, 3.0]))
        module.register_buffer("steps", torch.as_tensor([2, 4]))
    plan = blueprint(module, recorder)
    assert plan.laws("scale").moments((2,), Fans(1, 1)) == (2.0, 5.0)
    assert plan.values("buffer", "steps").tolist() == [2, 4]


def test_numbers_can_be_read_off_small_tensors() -> None:
    with recording() as recorder:
        rates = [r.item() for r in torch.linspace(0, 0.4, 5)]
        widths = (torch.arange(3) * 8).tolist()
        p = nn.Parameter(torch.empty(10))
        nn.init.trunc_normal_(p, std=0.1)
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert widths == [0, 8, 16]
    assert recorder.value(p).device.type == "cpu"


def test_memory_is_not_needed() -> None:
    with recording() as recorder:
        module = nn.Linear(2**20, 2**20)  # four terabytes
    law = recorder.law(module.weight)
    assert isinstance(law, laws.Uniform)
    assert law.bound == pytest.approx(2**-10)


def test_a_module_on_meta_without_laws_says_how_to_get_them() -> None:
    with torch.device("meta"):
        module = nn.Linear(3, 3)
    with pytest.raises(CaptureError, match=r"recording\(\)"):
        trace(module, torch.randn(2, 3))


def test_the_zoo_is_a_graph_already() -> None:
    assert load("zoo:resnet18").graph is not None


@pytest.mark.parametrize("rows", [8, 16, 256])
def test_rows_that_sum_to_zero_are_seen(rows: int) -> None:
    """Standardised weights: E[w w'] = −E[w²]/(n − 1) of two of one row, however few rows there are."""
    w = torch.randn(rows, 12, 3, 3, generator=torch.Generator().manual_seed(rows))
    w = w - w.mean((1, 2, 3), keepdim=True)
    law = read_law(w)
    assert isinstance(law, laws.Measured)
    assert law.row == pytest.approx(-float(w.square().mean()) / (12 * 9 - 1), rel=1e-4)


def test_independent_weights_are_taken_as_independent() -> None:
    """Five standard deviations are not met by chance: none of 600 draws."""
    generator = torch.Generator().manual_seed(0)
    draws = (torch.randn(rows, 20, generator=generator) for rows in (4, 8, 32) for _ in range(200))
    assert all(getattr(read_law(w), "row", None) is None for w in draws)
