"""The estimators' own training: losses against autograd, the optimiser on one vector against torch's."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from depthscale.errors import TrainingError
from depthscale.foundations.flat_adamw import FlatAdamW
from depthscale.foundations.network_training import cross_entropy, square_loss


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 2)).double()


@pytest.mark.parametrize("clip", [None, 0.1, 100.0])
def test_steps_are_those_of_torch(clip):
    ours, theirs = _net(), _net()
    flat = FlatAdamW(ours, 0.3, (0.9, 0.99), clip)
    matrices, rest = [p for p in theirs.parameters() if p.dim() > 1], [p for p in theirs.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.3}, {"params": rest, "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.99))
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(1)).double()
    for step in range(20):
        lr = 0.05 / (1 + step)
        for net, optimiser in ((ours, flat), (theirs, reference)):
            optimiser.zero_grad()
            (net(x) ** 2).sum().backward()
            if optimiser is reference:
                if clip is not None:
                    nn.utils.clip_grad_norm_(theirs.parameters(), clip)
                for group in reference.param_groups:
                    group["lr"] = lr
                reference.step()
            else:
                flat.step(lr)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_a_network_without_parameters():
    with pytest.raises(TrainingError, match="require gradients"):
        FlatAdamW(nn.Tanh(), 0.0, (0.9, 0.99))


def test_losses_and_their_derivatives():
    generator = torch.Generator().manual_seed(0)
    out = torch.randn(6, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(6, 1, generator=generator, dtype=torch.float64)
    y = torch.tensor([0, 3, 1, 1, 2, 0])
    smooth = F.one_hot(y, 4).double() * 0.9 + 0.1 / 4
    expected = (F.cross_entropy(out, y, reduction="none", label_smoothing=0.1) * weight[:, 0]).mean()
    wanted = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    squares = (F.mse_loss(out, wanted, reduction="none").mean(dim=1) * weight[:, 0]).mean()
    for (value, slope), loss in (
        (cross_entropy(out.detach(), smooth, weight), expected),
        (square_loss(out.detach(), wanted, weight), squares),
    ):
        (by_autograd,) = torch.autograd.grad(loss, out, retain_graph=True)
        torch.testing.assert_close(value, loss.detach(), rtol=1e-12, atol=0)
        torch.testing.assert_close(slope, by_autograd, rtol=1e-12, atol=1e-15)
