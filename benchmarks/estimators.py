"""NetworkClassifier and NetworkRegressor against scikit-learn's MLPs, both with their defaults, by 5-fold
cross-validation on the same folds; fit times are CPU seconds on one thread.

    python benchmarks/estimators.py [NAME ...]

NAME is digits, iris, wine, breast_cancer, mnist-10k, diabetes, friedman1 or plateaus; by default all of them.
Beside them stands a linear model (logistic or ridge regression on standardised columns).

A win is a higher mean over the folds; the paired differences stand beside it with their standard error.
"""

import argparse
import platform
import time
import warnings

import numpy as np
import sklearn
import torch
from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from depthscale.foundations import NetworkClassifier, NetworkRegressor

FOLDS, SEED = 5, 0
CLASSIFY = ("digits", "iris", "wine", "breast_cancer", "mnist-10k")
REGRESS = ("diabetes", "friedman1", "plateaus")


def data(name):
    if name == "mnist-10k":
        from depthscale.data.mnist import read_mnist

        raw = read_mnist()
        rows = np.random.default_rng(SEED).choice(60_000, 10_000, replace=False)
        return raw.x[rows].reshape(len(rows), -1) / 255.0, np.asarray(raw.y)[rows]
    if name == "friedman1":
        return datasets.make_friedman1(n_samples=1000, noise=1.0, random_state=SEED)
    if name == "plateaus":  # steps along five of ten directions, and noise
        rng = np.random.default_rng(SEED)
        x = rng.uniform(-3, 3, (1000, 10))
        return x, np.sign(x[:, :5]).sum(axis=1) * 10 + np.abs(x[:, 5]) * 5 + rng.normal(size=1000)
    return getattr(datasets, f"load_{name}")(return_X_y=True)


def compare(name):
    x, y = data(name)
    classify = name in CLASSIFY
    folds = (StratifiedKFold if classify else KFold)(FOLDS, shuffle=True, random_state=SEED)
    ours, theirs = (NetworkClassifier, MLPClassifier) if classify else (NetworkRegressor, MLPRegressor)
    linear = LogisticRegression if classify else Ridge
    scores, seconds = np.zeros((3, FOLDS)), np.zeros((3, FOLDS))
    for i, (train, test) in enumerate(folds.split(x, y)):
        for j, model in enumerate(
            (ours(random_state=i), theirs(random_state=i), make_pipeline(StandardScaler(), linear()))
        ):
            began = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(x[train], y[train])
            seconds[j, i] = time.process_time() - began
            scores[j, i] = model.score(x[test], y[test])
    gap = scores[0] - scores[1]
    print(
        f"| {name} | {len(x):,} × {x.shape[1]} | {'accuracy' if classify else 'R²'} | {scores[0].mean():.4f} | "
        f"{scores[1].mean():.4f} | {scores[2].mean():.4f} | {gap.mean():+.4f} ± {gap.std(ddof=1) / FOLDS**0.5:.4f} | "
        f"{seconds[0].mean():.2f} | {seconds[1].mean():.2f} | {seconds[1].mean() / seconds[0].mean():.2f} |",
        flush=True,
    )
    return gap.mean() > 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[*CLASSIFY, *REGRESS])
    names = parser.parse_args().names
    torch.set_num_threads(1)
    print(f"{platform.machine()}, torch {torch.__version__}, scikit-learn {sklearn.__version__}, {FOLDS} folds\n")
    print(
        "| data | rows × columns | score | depthscale | scikit-learn MLP | linear | difference | fit s | MLP fit s | "
        "speed-up |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    with threadpool_limits(1):
        won = {name: compare(name) for name in names}
    for what, group in (("classification", CLASSIFY), ("regression", REGRESS)):
        told = [won[n] for n in group if n in won]
        if told:
            print(f"\n{what}: ahead in {sum(told)} of {len(told)}")


if __name__ == "__main__":
    main()
