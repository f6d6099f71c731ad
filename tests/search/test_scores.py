import math

import numpy as np
import pytest
import torch

import depthscale as ds
from depthscale import zoo
from depthscale.errors import SearchError
from depthscale.graph import Builder, ops
from depthscale.search.scores import SCORES, Subject, ranks, score


@pytest.fixture(scope="module")
def cell():
    return zoo.nasbench201("333133", image_size=16, cells=1, simplify=True)


def test_all_are_finite_for_a_cell(cell):
    found = score(cell)
    assert found.keys() == SCORES.keys()
    assert all(math.isfinite(v) for v in found.values())


def test_the_same_seed_gives_the_same(cell):
    assert score(cell, seed=3) == score(cell, seed=3)
    assert score(cell, ["grad_norm"], seed=3) != score(cell, ["grad_norm"], seed=4)


def test_nothing_global_is_touched(cell):
    before = torch.get_rng_state()
    score(cell)
    assert torch.equal(before, torch.get_rng_state())


def test_a_cell_of_zeros_has_scores():
    found = score(zoo.nasbench201("000000", image_size=16, cells=1, simplify=True))
    assert found["parameters"] > 0
    assert found["spectrum"] < score(zoo.nasbench201("333133", image_size=16, cells=1, simplify=True))["spectrum"]


@pytest.fixture(scope="module")
def subject():
    return Subject(zoo.mlp((6, 5, 3), "relu"), 0, 16)


@pytest.fixture(scope="module")
def parts(subject):
    w1, b1, w2, b2 = (p.detach().double().requires_grad_() for p in subject.module.parameters())
    x = subject.x.double()
    h = x @ w1.T + b1
    return (w1, b1, w2, b2), x, h, h.clamp(min=0) @ w2.T + b2


class TestAgainstTheFormula:
    """On a network of one hidden layer, written out here."""

    def test_gradients(self, subject, parts):
        theta, _, _, y = parts
        labels = torch.randint(3, (16,), generator=torch.Generator().manual_seed(1))
        loss = -torch.log_softmax(y, 1)[range(16), labels].mean()
        g = torch.autograd.grad(loss, theta, retain_graph=True)
        assert SCORES["grad_norm"].function(subject) == pytest.approx(
            sum(math.sqrt(float((x**2).sum())) for p, x in zip(theta, g, strict=True) if p.dim() == 2), rel=1e-5
        )
        snip = sum(float((p.detach() * x).abs().sum()) for p, x in zip(theta, g, strict=True))
        assert SCORES["snip"].function(subject) == pytest.approx(snip, rel=1e-5)

    def test_synflow(self, subject, parts):
        """Σ over layers of θ ∂R/∂θ: each weight matrix gives R without later biases, each bias its share."""
        (w1, b1, w2, b2), *_ = parts
        a, b, c, d = (t.detach().abs() for t in (w1, b1, w2, b2))
        through_w1 = float((c @ (a @ torch.ones(6, dtype=torch.float64))).sum())
        through_b1 = float((c @ b).sum())
        total = 2 * (through_w1 + through_b1) + float(d.sum())  # w1, b1, w2 (which carries both), b2
        assert SCORES["synflow"].function(subject) == pytest.approx(math.log(total), rel=1e-6)

    def test_swap_counts_patterns(self, subject, parts):
        _, _, h, _ = parts
        assert SCORES["swap"].function(subject) == len({tuple(u) for u in (h > 0).T.tolist()})

    def test_naswot(self, subject, parts):
        _, _, h, _ = parts
        on = (h > 0).numpy()
        k = np.array([[(a == b).sum() for a in on] for b in on], dtype=float)
        expected = np.linalg.slogdet(k + 1e-9 * np.eye(16))[1]
        assert SCORES["naswot"].function(subject) == pytest.approx(expected, rel=1e-3)

    def test_spectrum(self, subject, parts):
        _, _, h, y = parts
        total = 0.0
        for z in (h, y):
            v = np.linalg.eigvalsh(np.cov(z.detach().numpy().T)).clip(1e-12)
            p = v / v.sum()
            total -= (p * np.log(p)).sum()
        assert SCORES["spectrum"].function(subject) == pytest.approx(total, rel=1e-4)


def test_independence_of_copied_channels_is_zero():
    """Two equal channels: the correlation matrix is singular."""
    net = Builder()
    x = net.input(3, 8, 8)
    y = x.then(ops.Conv(4, (3, 3), padding=1))
    twice = y.then(ops.Concat(axis=1), y).then(ops.Conv(8, (1, 1), groups=8))
    graph = net.graph(twice)
    alone = ds.build(graph, 0)
    values = alone.intermediates(Subject(graph, 0, 16).x)
    z = values[graph.outputs[0]][0].detach().flatten(1).double().numpy()
    assert np.linalg.eigvalsh(np.corrcoef(z))[0] < 1e-6
    first = values[y.name][0].detach().flatten(1).double().numpy()
    expected = np.linalg.eigvalsh(np.corrcoef(first))[0]
    assert score(graph, ["independence"])["independence"] == pytest.approx(expected, abs=1e-5)


def test_ranks_are_log_ranks_added():
    total = ranks({"a": [1.0, 2.0, 3.0], "b": [3.0, 1.0, 2.0]}, ["a", "b"])
    assert total == pytest.approx(np.log([1 / 3 * 1, 2 / 3 * 1 / 3, 1 * 2 / 3]))


@pytest.mark.parametrize(("change", "words"), [({"names": ["zenn"]}, "expected a score"), ({"batch": 1}, "at least 2")])
def test_bad_input(cell, change, words):
    with pytest.raises(SearchError, match=words):
        score(cell, **change)
