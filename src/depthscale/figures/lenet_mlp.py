"""LeNet-5 against multilayer perceptrons on MNIST: accuracy against parameters."""

import math
from typing import TYPE_CHECKING

import numpy as np

from depthscale.figures.figure import Data, Figure, Say, Verdict
from depthscale.figures.style import ACCENT, SECOND, picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

HIDDEN = ((16,), (64,), (128, 128), (300, 100))
LENET = "LeNet-5"


def run(quick: bool, seed: int, say: Say) -> Data:
    """Trains each network equally long, in epochs, with one recipe; quick takes part of the rows, the test's too.

    Raises DataError where MNIST can be found nowhere.
    """
    from depthscale import train, zoo
    from depthscale.data import load

    say("reading MNIST")
    dataset = load("mnist", limit=12_000 if quick else None, val=0.05, seed=seed)
    test, epochs = dataset.test(), 3 if quick else 10
    nets = {LENET: zoo.lenet5(act="relu", pool="max")}
    for hidden in HIDDEN:
        nets["MLP " + "-".join(map(str, hidden))] = zoo.mlp((784, *hidden, 10), input_shape=(1, 28, 28))
    right: dict[str, list[bool]] = {}
    data: Data = {"network": [], "parameters": [], "accuracy": [], "epochs": epochs, "test_rows": len(test.y),
                  "training_rows": len(dataset.train.y)}  # fmt: skip
    config = train.TrainConfig(budget=train.Budget(epochs=epochs), batch=64, seed=seed)
    for name, graph in nets.items():
        say(f"training {name}")
        result = train.fit(graph, dataset, config=config, progress=False)
        guess = train.predict(result.model, test.x).argmax(axis=1)
        right[name] = (np.asarray(guess) == test.y).tolist()
        data["network"].append(name)
        data["parameters"].append(result.parameters)
        data["accuracy"].append(float(np.mean(right[name])))
    mlps = [n for n in data["network"] if n != LENET]
    best = max(mlps, key=lambda n: data["accuracy"][data["network"].index(n)])
    ours, theirs = np.array(right[LENET]), np.array(right[best])
    data["best_mlp"] = best
    data["only_lenet_right"] = int((ours & ~theirs).sum())
    data["only_mlp_right"] = int((theirs & ~ours).sum())
    return data


def judge(data: Data) -> Verdict:
    """Holds if LeNet-5 beats the best MLP, larger ones included, by two standard errors of a sign test."""
    a, b = data["only_lenet_right"], data["only_mlp_right"]
    z = (a - b) / math.sqrt(max(a + b, 1))
    at = {n: i for i, n in enumerate(data["network"])}
    mlp, lenet = at[data["best_mlp"]], at[LENET]
    said = (
        f"LeNet-5 {100 * data['accuracy'][lenet]:.2f} % with {data['parameters'][lenet]:,} parameters, the best MLP "
        f"{100 * data['accuracy'][mlp]:.2f} % with {data['parameters'][mlp]:,}; of the rows that only one has right "
        f"LeNet-5 has {a} and the MLP {b}: z = {z:.1f}, 2 needed"
    )
    larger = max(data["parameters"]) > data["parameters"][lenet]
    if not larger:
        return Verdict("undecided", said + "; no MLP is as large")
    return Verdict("holds" if z > 2 else "fails" if z < 0 else "undecided", said)


def draw(data: Data) -> "Picture":
    """Test error against parameters."""
    figure, (a,) = picture(height=3.8)
    rows = zip(data["network"], data["parameters"], data["accuracy"], strict=True)
    for name, parameters, accuracy in rows:
        ours = name == LENET
        error = 100 * (1 - accuracy)
        bar = 100 * math.sqrt(accuracy * (1 - accuracy) / data["test_rows"])
        a.errorbar(parameters, error, bar, fmt="o" if ours else "s", color=SECOND if ours else ACCENT, markersize=7)
        a.annotate(name, (parameters, error), xytext=(7, 5), textcoords="offset points")
    a.set_xscale("log")
    a.set_yscale("log")
    a.set_xlim(8e3, 6e5)
    a.set_xlabel("parameters")
    a.set_ylabel("test error, %")
    ticks = [0.5, 1, 2, 5, 10]
    a.set_yticks(ticks, [f"{t:g}" for t in ticks])
    a.minorticks_off()
    return figure


FIGURE = Figure(
    name="lenet-mlp",
    title="LeNet-5 against multilayer perceptrons",
    claim="On MNIST, trained equally long, LeNet-5 with 61,706 parameters is more accurate than multilayer perceptrons "
    "with several times as many.",
    source="LeCun, Bottou, Bengio & Haffner 1998",
    order=70,
    run=run,
    judge=judge,
    draw=draw,
)
