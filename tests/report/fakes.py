"""Made-up but plausible results, as a design of digits and one of house prices would give."""

import math
import random
from dataclasses import replace

from depthscale import zoo
from depthscale.graph import Graph
from depthscale.report import (
    Confusion,
    DataFacts,
    Environment,
    LayerTheory,
    Predictions,
    ReportData,
    Standing,
    TheoryFacts,
    TrialRow,
)

KINDS = (
    "plain MLP, 4 layers of 128, tanh; SGD, learning rate 0.03, batch 128",
    "residual MLP, 12 layers of 96, GELU, layer norm; AdamW, learning rate 0.002, batch 64, weight decay 0.01",
    "convolutional, 3 stages of 16 to 64 channels, ReLU, batch norm; AdamW, learning rate 0.004, batch 64, shifts",
    "LeNet-5 with max pooling, ReLU; AdamW, learning rate 0.001, batch 32",
)
THEORY = (
    "theory: the depth scale of 3.1 layers is too short for 40 layers of sigmoid",
    "theory: the gradient falls by 10⁻¹² from the last layer to the first",
    "theory: the gradient falls by 10⁻⁹ from the last layer to the first",
)


def trials(count: int = 30, seed: int = 1, ceiling: float = 0.985) -> tuple[TrialRow, ...]:
    """Some complete, some pruned, some dropped by theory, one diverged, one invalid; trial 7 is the best."""
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        words = KINDS[i % len(KINDS)]
        if i % 5 == 4:
            rows.append(TrialRow(i, words, "dropped", rng.choice(THEORY), rng.randrange(4_000, 200_000)))
            continue
        if i == 11:
            rows.append(TrialRow(i, words, "dropped", "the same network and training as an earlier trial", 61_706))
            continue
        if i == 12:
            rows.append(TrialRow(i, words, "invalid", "Conv: expected an input of at least 5 along each axis"))
            continue
        final = ceiling if i == 7 else ceiling - 0.01 - 0.15 * rng.random()
        state = "complete" if i % 4 == 3 or i == 7 else "pruned"
        epochs = 27 if state == "complete" else rng.choice([3, 9])
        curve = tuple(
            (float(e), final - (final - 0.1) * math.exp(-e / 3) + 0.004 * rng.gauss(0, 1)) for e in range(1, epochs + 1)
        )
        if i == 13:
            curve, state = (*curve[:2], (3.0, math.nan)), "diverged"
        why = {"pruned": "not among the best third after this much training", "diverged": "loss is NaN at epoch 3"}
        score = None if state == "diverged" else round(final, 4)
        spent = f"{epochs} epochs, {epochs * 0.31:.1f} s"
        rows.append(TrialRow(i, words, state, why.get(state, ""), rng.randrange(9_000, 300_000), spent, score, curve))
    return tuple(rows)


def theory(graph: Graph) -> TheoryFacts:
    layers = [n.name for n in graph.nodes if n.inputs]
    rng = random.Random(2)
    return TheoryFacts(
        tuple(LayerTheory(n, math.exp(0.2 * rng.gauss(0, 1)), 1e-4 * math.exp(0.05 * i)) for i, n in enumerate(layers)),
        math.inf,
        True,
        "Signals and gradients keep their size through all layers: this network can train.",
        ("Weights are drawn at sw2 = 2, sb2 = 0, the critical point of ReLU.",),
    )


def environment() -> Environment:
    return Environment(
        0,
        58.4,
        "depthscale design digits --budget 60s --out out/digits",
        "2 × AMD EPYC 7B13, 8 GB, no accelerator",
        {"depthscale": "0.1.0", "torch": "2.13.0", "numpy": "2.3.1", "scikit-learn": "1.7.2", "python": "3.11.9"},
        "2026-03-01 12:00 UTC",
    )


def digits(classes: tuple[str, ...] = tuple("0123456789")) -> ReportData:
    """A classification report in which the network wins, but not by much."""
    rng = random.Random(3)
    graph = zoo.lenet5(num_classes=len(classes), act="relu", pool="max")
    counts = [[0] * len(classes) for _ in classes]
    for i in range(len(classes)):
        counts[i][i] = 36
    for _ in range(5):
        i, j = rng.sample(range(len(classes)), 2)
        counts[i][j] += 1
    total = sum(map(sum, counts))
    right = sum(counts[i][i] for i in range(len(classes)))
    return ReportData(
        title="digits",
        data=DataFacts(
            "digits",
            "classification",
            (1, 28, 28),
            1257,
            180,
            total,
            classes,
            "digit",
            ("8 × 8 images, one channel.", "Pixels are divided by 16 and standardised with the training split's mean."),
        ),
        graph=graph.to_json(),
        winner=7,
        result=Standing("this network", {"accuracy": right / total}, 21.0, "trial 7, retrained"),
        trials=trials(),
        environment=environment(),
        baselines=(
            Standing("logistic regression", {"accuracy": 0.9583}, 0.4, "converged"),
            Standing("MLP (scikit-learn)", {"accuracy": 0.975}, 2.2, "converged after 88 epochs"),
            Standing("histogram gradient boosting", {"accuracy": 0.9667}, 5.9, "100 iterations"),
        ),
        outcome=Confusion(tuple(map(tuple, counts))),
        theory=theory(graph),
        score_name="validation accuracy",
        curve_y="validation accuracy",
    )


def prices(count: int = 4000) -> ReportData:
    """A regression report in which gradient boosting wins."""
    rng = random.Random(4)
    graph = zoo.mlp((13, 64, 64, 64, 1), residual=True)
    truth = tuple(round(math.exp(rng.gauss(12, 0.5))) * 1.0 for _ in range(count))
    predicted = tuple(t * math.exp(rng.gauss(0, 0.15)) for t in truth)
    mse = sum((p - t) ** 2 for p, t in zip(predicted, truth, strict=True)) / count
    base = digits()
    return replace(
        base,
        title="houses.csv",
        data=DataFacts(
            "houses.csv",
            "regression",
            (13,),
            16000,
            2000,
            count,
            (),
            "price",
            ("Column “street” has 1,204 values and was left out.", "37 missing values of “rooms” were filled with 5."),
        ),
        graph=graph.to_json(),
        result=Standing("this network", {"rmse": mse**0.5, "mae": 20_511.0, "r2": 0.871}, 40.2, "trial 7, retrained"),
        baselines=(
            Standing("ridge regression", {"rmse": 70_431.2, "mae": 44_000.0, "r2": 0.62}, 0.1, "penalty 1"),
            Standing("histogram gradient boosting", {"rmse": 0.9 * mse**0.5, "mae": 18_000.0, "r2": 0.9}, 3.1),
        ),
        outcome=Predictions(truth, predicted),
        theory=replace(theory(graph), depth_scale=6.2),
        score_name="validation R²",
        curve_y="validation R²",
        curve_x="seconds",
    )
