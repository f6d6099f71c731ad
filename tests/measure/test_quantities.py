"""Measured quantities against closed forms, brute force and counting."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from depthscale.errors import DepthscaleError
from depthscale.measure.hooked import DeadUnits, gradient_noise
from depthscale.measure.residual import lesions, path_gradients, path_lengths, permutations, without
from depthscale.measure.shattered import gradient_correlation, grid, input_gradients, shattering
from depthscale.measure.spectrum import jacobian_values


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one_layer(seed: int, width: int = 400) -> nn.Sequential:
    g = seeded(seed)
    model = nn.Sequential(nn.Linear(1, width), nn.ReLU(), nn.Linear(width, 1))
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(generator=g)
    return model


def test_gradients_of_a_polynomial() -> None:
    class Cube(nn.Module):
        def forward(self, x):
            return x**3

    x = grid(9, 1.5)
    assert np.allclose(input_gradients(Cube(), x)[:, 0], 3 * x[:, 0].numpy() ** 2, atol=1e-5)


def test_correlation_of_a_wide_layer_is_the_arc_cosine_kernel() -> None:
    # g(x) = Σ a_i w_i 1[w_i x + b_i > 0], all N(0, 1): E[g g'] ∝ E[w² 1 1'] for directions (x, 1) and (x', 1)
    x = torch.tensor([[0.3], [0.8], [-1.0]])
    found = gradient_correlation(one_layer, x, range(300))
    z = torch.randn(2, 2_000_000, generator=seeded(1)).numpy()
    on = [(z[0] * v + z[1] > 0) * z[0] for v in x[:, 0].numpy()]
    second = np.array([[np.mean(a * b) for b in on] for a in on])
    wanted = second / np.sqrt(np.outer(np.diag(second), np.diag(second)))
    assert np.allclose(found, wanted, atol=0.15)  # 300 networks: standard error 0.06
    assert np.allclose(np.diag(found), 1)


def test_shattering_of_white_and_constant_gradients() -> None:
    assert shattering(np.eye(10)) == 1.0
    assert shattering(np.ones((10, 10)), 3) == 0.0
    with pytest.raises(DepthscaleError, match="square matrix"):
        shattering(np.ones((3, 4)))
    with pytest.raises(DepthscaleError, match="at least 2 seeds"):
        gradient_correlation(one_layer, grid(4), [0])


def test_jacobian_of_a_linear_map_and_modes_restored() -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.5), nn.Linear(4, 3))
    product = model[2].weight @ model[0].weight
    found = jacobian_values(model, torch.zeros(5))
    assert np.allclose(found, torch.linalg.svdvals(product.detach()).numpy(), atol=1e-5)
    assert model[1].training
    with pytest.raises(DepthscaleError, match="at most 2 outputs"):
        jacobian_values(model, torch.zeros(5), rows=2)


def test_dead_units_are_those_that_no_example_activates() -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.copy_(torch.tensor([-1.0, 1.0, -1.0, 0.0]))
        model[0].weight[2] = torch.tensor([5.0, 0.0])
    with DeadUnits(model) as seen:
        model(torch.zeros(3, 2))
        model(torch.tensor([[1.0, 0.0]]))  # wakes unit 2
    assert seen.shares() == {"1": 0.5}
    assert not model[1]._forward_hooks  # nothing is left behind
    with pytest.raises(DepthscaleError, match=r"with nn\.ReLU modules"):
        DeadUnits(nn.Linear(1, 1))


def test_gradient_noise_of_a_mean() -> None:
    # loss (w − b)²/2 with b = ±1 + 3: gradients w − b, so E g = w − 3 and Var g = 1
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(5.0)
    batches = [3 + s for s in torch.randn(4000, generator=seeded(0)).tolist()]
    found = gradient_noise(model, lambda b: ((model.weight - b) ** 2 / 2).sum(), batches)
    assert found["signal"] == pytest.approx(4.0, abs=0.15)
    assert found["noise"] == pytest.approx(1.0, abs=0.07)
    assert model.weight.grad is None
    with pytest.raises(DepthscaleError, match="at least 2 batches"):
        gradient_noise(model, lambda b: model.weight.sum(), [1])


class Linear(nn.Module):
    """x + A x."""

    def __init__(self, n: int, seed: int) -> None:
        super().__init__()
        self.a = nn.Parameter(0.5 * torch.randn(n, n, generator=seeded(seed)))

    def forward(self, x):
        return x + x @ self.a.T


def test_paths_of_linear_blocks_by_brute_force() -> None:
    blocks = [Linear(3, s) for s in range(4)]
    v = torch.randn(3, generator=seeded(9))
    found = path_gradients(blocks, torch.ones(1, 3), lambda h: (h @ v).sum(), samples=10_000 // 40)
    for k in range(5):
        norms = []
        for chosen in itertools.combinations(range(4), k):
            g = v.clone()
            for i in reversed(chosen):
                g = g @ blocks[i].a.detach()
            norms.append(float(g.norm()))
        assert found[k] == pytest.approx(np.mean(norms), rel=0.15)
    assert path_lengths(4).tolist() == [1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16]


def test_lesions_delete_exactly_the_named_blocks_and_leave_no_trace() -> None:
    blocks = [Linear(3, s) for s in range(3)]
    model = nn.Sequential(*blocks)
    x = torch.ones(1, 3)
    whole = model(x)
    with without(blocks, [1]):
        assert torch.allclose(model(x), blocks[2](blocks[0](x)))
    assert torch.equal(model(x), whole)
    found = lesions(blocks, lambda: float(model(x).detach().sum()), [0, 1, 3], samples=5)
    assert found[0] == [pytest.approx(float(whole.detach().sum()))]
    assert len(found[1]) == 3
    assert found[3] == [3.0]
    shrink = nn.Linear(2, 3)
    with pytest.raises(DepthscaleError, match="keeps its input's shape"), without([shrink], [0]):
        shrink(torch.zeros(1, 2))


def test_permuted_blocks_come_back_in_order() -> None:
    blocks = [Linear(3, s) for s in range(4)]
    model = nn.Sequential(*blocks)
    found = permutations(model, lambda: float(model(torch.ones(1, 3)).detach().sum()), [0, 2], samples=3)
    assert len(set(found[0])) == 1
    assert list(model) == blocks
