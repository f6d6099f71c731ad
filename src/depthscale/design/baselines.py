"""What the network has to stand beside: linear models, scikit-learn's MLP, gradient-boosted trees.

Each is scikit-learn's estimator with its defaults, fitted to the same rows and scored on the same test rows. One that
would overrun its time is stopped between iterations, and says after how many.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

Array = NDArray[Any]
SMALL = 2_000_000  # numbers in a table that one thread gets through as quickly as several


@dataclass(frozen=True)
class Baseline:
    """One baseline's result: ``predict`` gives labels or values for preprocessed rows."""

    name: str
    predict: Callable[[Array], Array]
    seconds: float
    note: str


def _until(limit: float, most: int, step: Callable[[int], bool], least: int = 1) -> str:
    """Call ``step(iterations to add)`` until it returns True (converged), the time or the iterations run out.

    It begins with ``least`` iterations; after that as many are added as should fit into the time that is left.
    """
    start, done, more = time.monotonic(), 0, least
    while True:
        done += more
        if step(more):
            return "converged"
        used = time.monotonic() - start
        affordable = int((limit - used) / used * done)
        if done >= most:
            return f"{most} iterations"
        if affordable < least:
            return f"stopped at its time limit after {done} of {most} iterations"
        more = min(affordable, most - done)


def _linear_classifier(x: Array, y: Array, seed: int, limit: float) -> tuple[Any, str]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(warm_start=True)

    def step(more: int) -> bool:
        model.set_params(max_iter=more).fit(x, y)
        return bool(np.all(model.n_iter_ < more))

    return model, _until(limit, 1000, step, least=10)


def _ridge(x: Array, y: Array, seed: int, limit: float) -> tuple[Any, str]:
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(alphas=np.logspace(-3, 4, 15)).fit(x, y)
    return model, f"penalty {model.alpha_:.3g} by leave-one-out"


def _mlp(x: Array, y: Array, seed: int, limit: float, kind: str) -> tuple[Any, str]:
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    # one epoch a call: scikit-learn's own stopping rule (no improvement of 1e-4 in ten epochs) is kept by hand
    model = (MLPClassifier if kind == "classification" else MLPRegressor)(random_state=seed)
    start, best, waited = time.monotonic(), np.inf, 0
    classes = {"classes": np.unique(y)} if kind == "classification" else {}
    for epoch in range(1, 201):
        model.partial_fit(x, y, **classes)
        best, waited = (model.loss_, 0) if model.loss_ < best - 1e-4 else (best, waited + 1)
        if waited >= 10:
            return model, f"converged after {epoch} epochs"
        if time.monotonic() - start > limit:
            return model, f"stopped at its time limit after {epoch} of 200 epochs"
    return model, "200 epochs"


PROBE = 2_000  # rows that a first iteration is timed on, where the table is larger
SHARE = 1 / 8  # of the time limit that one iteration of boosting may take


def _boosting(x: Array, y: Array, seed: int, limit: float, kind: str) -> tuple[Any, str]:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    cls = HistGradientBoostingClassifier if kind == "classification" else HistGradientBoostingRegressor
    start = time.monotonic()
    rows = _rows_that_fit(lambda some: cls(max_iter=1).fit(x[some], y[some]), y, seed, limit, kind)
    model = cls(warm_start=True, random_state=seed, early_stopping=False)
    inside, target = (x, y) if len(rows) == len(x) else (x[rows], y[rows])
    done = 0

    def step(more: int) -> bool:
        nonlocal done
        done += more
        model.set_params(max_iter=done).fit(inside, target)
        return False

    note = _until(limit - (time.monotonic() - start), 100, step)
    return model, note if len(rows) == len(x) else f"{note}, on {len(rows):,} of {len(x):,} rows"


def _rows_that_fit(iterate: Callable[[Array], Any], y: Array, seed: int, limit: float, kind: str) -> Array:
    """Rows few enough for one iteration, which nothing can stop, to take a small share of the time limit.

    The cost of an iteration grows with the rows; it is measured on ``PROBE`` of them. Every class keeps a row.
    """
    order = np.random.default_rng(seed).permutation(len(y))
    if kind == "classification":
        firsts = np.unique(y[order], return_index=True)[1]
        order = np.concatenate([order[firsts], np.delete(order, firsts)])
    if len(y) <= PROBE:
        return np.arange(len(y))
    start = time.monotonic()
    iterate(order[:PROBE])
    affordable = int(limit * SHARE / (time.monotonic() - start) * PROBE)
    return np.arange(len(y)) if affordable >= len(y) else np.sort(order[: max(affordable, PROBE // 4)])


def fit_baselines(x: Array, y: Array, task: str, *, seed: int, limit: float) -> Iterator[Baseline]:
    """Fitted baselines, one after the other; each may use ``limit`` seconds (checked between iterations).

    ``x`` of any shape is flattened; ``y`` are class indices or values of shape (N, 1).
    """
    rows = x.reshape(len(x), -1)
    labels = y if task == "classification" else y.ravel()
    recipes: dict[str, Callable[[], tuple[Any, str]]] = {
        "logistic regression" if task == "classification" else "ridge regression": lambda: (
            _linear_classifier if task == "classification" else _ridge
        )(rows, labels, seed, limit),
        "MLP (scikit-learn)": lambda: _mlp(rows, labels, seed, limit, task),
        "histogram gradient boosting": lambda: _boosting(rows, labels, seed, limit, task),
    }
    threads = 1 if rows.size < SMALL else None  # small fits spend more on sharing work than on working
    for name, recipe in recipes.items():
        start = time.monotonic()
        with warnings.catch_warnings(), threadpool_limits(threads):
            warnings.simplefilter("ignore")  # not converging within a round is how the clock gets its look
            model, note = recipe()
        yield Baseline(name, _predictor(model), time.monotonic() - start, note)


def _predictor(model: Any) -> Callable[[Array], Array]:
    return lambda rows: np.asarray(model.predict(rows.reshape(len(rows), -1)))
