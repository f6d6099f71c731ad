"""Network estimators: what scikit-learn's users do with them, and what weights and order must not change."""

import pickle

import numpy as np
import pytest
from sklearn.datasets import load_iris, make_friedman1
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from depthscale import zoo
from depthscale.errors import DepthscaleError, TrainingError
from depthscale.foundations import NetworkClassifier, NetworkRegressor
from depthscale.foundations.tabular import FAR, Standard, merge_rows

X, Y = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[Y]


@pytest.fixture(scope="module")
def fitted():
    return NetworkClassifier(epochs=60).fit(X, NAMES)


def test_classes_and_probabilities(fitted):
    assert fitted.score(X, NAMES) > 0.93
    p = fitted.predict_proba(X)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert (fitted.classes_[p.argmax(axis=1)] == fitted.predict(X)).all()
    assert len(fitted.loss_curve_) == fitted.n_iter_ == 60
    assert fitted.loss_curve_[-1] < fitted.loss_curve_[0]


def test_a_pickle_holds_graph_and_arrays_only(fitted):
    text = pickle.dumps(fitted)
    assert b"torch" not in text
    np.testing.assert_array_equal(pickle.loads(text).predict_proba(X), fitted.predict_proba(X))


def test_rows_in_any_order_and_weights_as_repetitions():
    rng = np.random.default_rng(0)
    times = rng.integers(0, 3, len(Y))
    order = rng.permutation(len(Y))
    weighted = NetworkClassifier(epochs=3).fit(X[order], Y[order], sample_weight=times[order])
    repeated = NetworkClassifier(epochs=3).fit(np.repeat(X, times, axis=0), np.repeat(Y, times))
    np.testing.assert_array_equal(weighted.predict_proba(X), repeated.predict_proba(X))


def test_heavy_rows_are_followed():
    x = np.zeros((20, 1))
    y = np.arange(20) % 2
    for heavy in (0, 1):
        model = NetworkClassifier(epochs=300, learning_rate=3e-2).fit(
            x, y, sample_weight=np.where(y == heavy, 9.0, 1.0)
        )
        assert model.predict([[0.0]]) == heavy
        assert model.predict_proba([[0.0]])[0, heavy] == pytest.approx(0.9, abs=0.05)


def test_numbers_one_or_several():
    x, y = make_friedman1(200, random_state=0)
    one = NetworkRegressor(epochs=60).fit(x, 1e6 * y)
    assert one.predict(x).shape == (200,)
    assert one.score(x, 1e6 * y) > 0.85
    several = NetworkRegressor(epochs=2).fit(x, np.column_stack([y, -y]))
    assert several.predict(x).shape == (200, 2)


def test_the_mean_of_constant_targets():
    model = NetworkRegressor(epochs=1).fit(X, np.column_stack([np.full(len(X), 7.0), X[:, 0]]))
    np.testing.assert_allclose(model.predict(X)[:, 0], 7, rtol=1e-12)


def test_in_a_pipeline_and_a_grid():
    pipeline = make_pipeline(StandardScaler(), NetworkClassifier(epochs=2))
    grid = GridSearchCV(pipeline, {"networkclassifier__learning_rate": [1e-6, 1e-2]}, cv=2).fit(X, Y)
    assert grid.best_params_ == {"networkclassifier__learning_rate": 1e-2}


def test_networks_by_name_and_as_graphs():
    images = np.random.default_rng(0).normal(size=(30, 144))
    y = np.arange(30) % 3
    named = NetworkClassifier("convnet", epochs=1).fit(images, y)
    assert named.graph_.shapes()[named.graph_.inputs[0]][1:] == (1, 12, 12)
    graph = NetworkClassifier(zoo.mlp((4, 5, 3), "tanh"), epochs=1).fit(X, Y)
    assert graph.graph_.cost().parameters == 4 * 5 + 5 + 5 * 3 + 3
    assert NetworkClassifier("mlp", epochs=1).fit(X, Y).graph_.cost().depth == 3
    shaped = NetworkClassifier("convnet", input_shape=(1, 9, 16), epochs=1).fit(images, y)
    assert shaped.graph_.shapes()[shaped.graph_.inputs[0]][1:] == (1, 9, 16)


def test_critical_by_default_and_own_laws_on_request():
    graph = zoo.mlp((4, 50, 50, 3), "tanh")
    critical, own = (NetworkClassifier(graph, initialisation=i, epochs=1) for i in ("critical", "own"))
    assert own.fit(X, Y).graph_ == graph
    from depthscale.theory.initialise import critical as rule

    assert critical.fit(X, Y).graph_ == rule(graph)


def test_a_seed_decides():
    a, b, c = (NetworkClassifier(epochs=1, random_state=s).fit(X, Y).predict_proba(X) for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"architecture": "lenet6"}, "lenet"),
        ({"architecture": 5}, "expected architecture"),
        ({"architecture": zoo.mlp((4, 5, 2))}, "to 3 outputs"),
        ({"architecture": "lenet5", "input_shape": (1, 5, 5)}, "at least"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"initialisation": "zero"}, "initialisation"),
        ({"learning_rate": -1.0}, "lr"),
        ({"learning_rate": "fast"}, "learning_rate to be a number"),
        ({"input_shape": (3, 3)}, "from 4 inputs"),
        ({"architecture": zoo.mlp((5, 4, 3))}, "from 4 inputs"),
        ({"device": "tpu"}, "device to be auto, cpu"),
        ({"weight_decay": "much"}, "weight_decay"),
    ],
)
def test_bad_options(options, says):
    with pytest.raises(DepthscaleError, match=says):
        NetworkClassifier(**{"epochs": 1, **options}).fit(X, Y)


def test_tables_with_names():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    table = pandas.DataFrame(X, columns=list("abcd"))
    model = NetworkClassifier(epochs=1).fit(table, pandas.Series(NAMES))
    assert list(model.feature_names_in_) == list("abcd")
    np.testing.assert_array_equal(
        model.predict_proba(table), NetworkClassifier(epochs=1).fit(X, NAMES).predict_proba(X)
    )
    with pytest.raises(ValueError, match="same order"):
        model.predict(table[list("dcba")])


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (np.where(X > 6, np.nan, X), Y, "NaN"),
        (X[:, 0], Y, "Expected 2D"),
        (X, X[:, 0], "Unknown label type"),
        (X, Y[:10], "inconsistent numbers"),
        (X[:0], Y[:0], "0 sample"),
    ],
    ids=["nan", "1-D", "continuous", "lengths", "empty"],
)
def test_bad_tables(x, y, says):
    with pytest.raises(ValueError, match=says):
        NetworkClassifier(epochs=1).fit(x, y)


def test_one_class_and_other_columns(fitted):
    only = NetworkClassifier(epochs=1).fit(X, np.full(len(X), "one"))
    assert set(only.predict(X)) == {"one"}
    assert (only.predict_proba(X) == 1).all()
    with pytest.raises(ValueError, match="expecting 4 features"):
        fitted.predict(X[:, :3])


def test_images_that_are_not_square():
    with pytest.raises(DepthscaleError, match="no square image"):
        NetworkClassifier("convnet").fit(np.ones((4, 7)) * np.arange(4)[:, None], [0, 1, 0, 1])


def test_divergence_is_told():
    x = np.random.default_rng(0).normal(size=(40, 3))
    graph = zoo.mlp((3, 8, 1), "relu")
    with pytest.raises(TrainingError, match="smaller learning_rate"):
        NetworkRegressor(graph, learning_rate=1e30, weight_decay=0.0, epochs=5).fit(x, x[:, 0])


def test_merging_and_scaling():
    x = np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [5.0, 6.0]])
    rows, y, weight = merge_rows(x, np.array([0, 1, 0, 1]), np.array([1.0, 1.0, 3.0, 0.0]))
    found = {(*r, int(t)): float(w) for r, t, w in zip(rows.tolist(), y, weight, strict=True)}
    assert found == {(1.0, 2.0, 0): 1.6, (3.0, 4.0, 1): 0.4}
    wide = np.array([[1e300, 5.0], [-1e300, 5.0], [0.0, 5.0]])
    scale = Standard.of(wide, np.ones(3))
    np.testing.assert_allclose(scale.apply(wide).std(axis=0), [1, 0], atol=1e-12)
    np.testing.assert_allclose(scale.undo(scale.apply(wide)), wide)
    assert scale.apply(np.array([[1e308, 5.0]]), cut=True)[0, 0] == FAR


def test_the_epoch_that_does_best_on_held_out_rows_is_kept():
    x, y = make_friedman1(150, noise=3.0, random_state=0)
    model = NetworkRegressor(epochs=40, learning_rate=1e-2).fit(x, y)
    best = int(np.argmin(model.loss_curve_))
    assert best < 39  # it would have gone on to fit the noise
    # the held-out rows are the last in the order that training has; standardised errors of the kept weights on them
    rows, targets, _ = merge_rows(x, y[:, None], np.ones(150))
    off = (model.predict(rows[-22:]) - targets[-22:, 0]) / y.std()
    assert np.mean(off**2) == pytest.approx(model.loss_curve_[best], rel=1e-4)
