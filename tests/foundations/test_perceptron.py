import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.linear_model import Perceptron as Theirs

from depthscale.errors import DepthscaleError
from depthscale.foundations.perceptron import train_perceptron


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_updates_stay_within_novikoffs_bound(variables, rows, seed):
    rng = np.random.default_rng(seed)
    u, b, x = rng.normal(size=variables), rng.normal(), rng.normal(size=(rows, variables))
    length = np.sqrt(u @ u + b * b)
    distance = (x @ u + b) / length
    x, distance = x[np.abs(distance) > 0.05], distance[np.abs(distance) > 0.05]
    if len(x) == 0:
        return
    labels = np.sign(distance)
    found = train_perceptron(x, labels, epochs=100_000)
    radius2 = (x**2).sum(axis=1).max() + 1
    assert found.separates
    assert (found(x) == labels).all()
    assert found.updates <= radius2 / np.abs(distance).min() ** 2


def test_step_by_step_as_scikit_learn_trains_it():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 3))
    labels = np.sign(x @ [1, -2, 0.5] + 0.3 + rng.normal(0, 0.5, 80))
    for epochs in (1, 2, 5):
        theirs = Theirs(shuffle=False, max_iter=epochs, tol=None, eta0=1.0).fit(x, labels)
        ours = train_perceptron(x, labels, epochs=epochs)
        np.testing.assert_allclose(ours.weight, theirs.coef_[0], rtol=1e-12)
        assert ours.bias == pytest.approx(theirs.intercept_[0])


def test_xor_is_never_learned():
    x = np.array([[0.0, 0], [1, 1], [0, 1], [1, 0]])
    found = train_perceptron(x, np.array([1.0, 1, -1, -1]), epochs=50)
    assert not found.separates
    assert found.epochs == 50


def test_other_labels():
    with pytest.raises(DepthscaleError, match="-1 and"):
        train_perceptron(np.ones((2, 1)), np.array([0.0, 1.0]))
