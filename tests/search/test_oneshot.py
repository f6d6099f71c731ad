from dataclasses import replace

import numpy as np
import pytest
import torch

from depthscale import zoo
from depthscale.data import load
from depthscale.errors import SearchError
from depthscale.search.oneshot import Darts, Supernet, _Run, darts, discretised, mixed
from depthscale.search.space import Script
from depthscale.search.spaces import space
from depthscale.zoo.nasbench201 import OPS, parse

SMALL = Darts(width=2, batch=8, epochs=0.3)


@pytest.fixture(scope="module")
def digits():
    return load("digits", limit=300)


class TestSupernet:
    def test_weights_of_one_cell_give_that_cell(self, digits):
        """With a weight of one for one operation an edge, edges of none and skip behave as written."""
        net = Supernet((1, 8, 8), 10, SMALL, 0)
        cell = net.stages[0][0]
        x = torch.randn(4, 2, 8, 8)
        weights = torch.zeros(6, 5)
        for i, op in enumerate(parse("110101")):
            weights[i, OPS.index(op)] = 1
        # node1 = x, node2 = x + 0, node3 = skip(0) + none + skip(2) = 2 x
        assert torch.allclose(cell(x, weights), 2 * x)

    def test_shapes(self, digits):
        y = Supernet((1, 8, 8), 10, SMALL, 0)(torch.randn(4, 1, 8, 8), mixed(torch.zeros(6, 5), fair=False))
        assert y.shape == (4, 10)

    def test_mixing(self):
        assert mixed(torch.zeros(6, 5), fair=False).sum(1) == pytest.approx(np.ones(6))
        assert torch.all(mixed(torch.zeros(6, 5), fair=True) == 0.5)

    def test_discretised_never_chooses_none(self):
        w = np.full((6, 5), 0.1)
        w[:, OPS.index("none")] = 0.9
        w[2, OPS.index("nor_conv_3x3")] = 0.2
        assert parse(discretised(w))[2] == "nor_conv_3x3"
        assert "none" not in parse(discretised(w))


class TestSecondOrder:
    def test_against_finite_differences_of_the_whole(self, digits):
        """d/d alpha of L_val(w − ξ ∇_w L_train(w, alpha), alpha), the step taken anew for every alpha, in double."""
        run = _Run(digits, Darts(order=2, width=2, batch=16), 0)
        run.net, run.x = run.net.double(), run.x.double()
        run.own = list(run.net.parameters())
        run.alpha = run.alpha.detach().double().requires_grad_()
        train, val, rate = run._batch(0), run._batch(run.half), 0.02
        weights = [p.detach().clone() for p in run.own]
        run.nudge = 1e-6  # the paper's 0.01 is for single precision
        found, _, _ = run.unrolled(train, val, rate)
        assert all(torch.equal(p, q) for p, q in zip(run.own, weights, strict=True))

        def after_the_step(alpha):
            run.alpha = alpha.clone().requires_grad_()
            gradients = torch.autograd.grad(run._loss(train)[0], run.own)
            with torch.no_grad():
                for p, g in zip(run.own, gradients, strict=True):
                    p.sub_(rate * g)
                loss = float(run._loss(val)[0])
                for p, q in zip(run.own, weights, strict=True):
                    p.copy_(q)
            return loss

        alpha = run.alpha.detach().clone()
        for i, j in ((0, 3), (2, 1), (4, 2), (5, 4)):
            step = torch.zeros_like(alpha)
            step[i, j] = 1e-5
            slope = (after_the_step(alpha + step) - after_the_step(alpha - step)) / 2e-5
            assert float(found[i, j]) == pytest.approx(slope, rel=0.05, abs=2e-3)


class TestDarts:
    @pytest.mark.parametrize("config", [SMALL, replace(SMALL, order=2), replace(SMALL, fair=True)])
    def test_ends_in_a_cell_of_the_space(self, digits, config):
        found = darts(digits, config)
        assert len(found.moments) > 2
        assert zoo.nasbench201(found.cell, cells=1).shapes()
        assert digits.test_opened == 0
        drawn = space("nasbench201").draw(Script(found.decisions))
        assert drawn.architecture == found.cell

    def test_the_same_seed_gives_the_same(self, digits):
        a, b, c = (darts(digits, SMALL, seed=s) for s in (1, 1, 2))
        assert a.moments[-1].weights == b.moments[-1].weights != c.moments[-1].weights

    def test_learns(self, digits):
        """The loss of a supernet falls within some tens of steps."""
        found = darts(digits, Darts(width=4, batch=32, epochs=6, rate=0.1))
        assert found.moments[-1].train_loss < 2.0 < found.moments[1].train_loss + 0.3

    def test_bad_input(self, digits):
        with pytest.raises(SearchError, match="order 1 or 2"):
            Darts(order=3)
        with pytest.raises(SearchError, match="classes of images"):
            darts(load("diabetes"))
        with pytest.raises(SearchError, match="training rows"):
            darts(digits, Darts(batch=500))
