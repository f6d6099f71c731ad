"""A design's result as plain data for the report."""

import math
import platform
import time
from typing import TYPE_CHECKING

import numpy as np

from depthscale.graph import ops
from depthscale.report.data import (
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

if TYPE_CHECKING:
    from depthscale.design.run import DesignResult
    from depthscale.design.search import Trial
    from depthscale.theory.propagate import Propagation

CURVES = {"classification": "accuracy", "regression": "rmse"}
SCORES = {"accuracy": ("accuracy", "accuracy"), "rmse": ("r2", "R²")}  # larger is better: metric, and its name


def report_data(result: "DesignResult") -> ReportData:
    """Everything that the report of this result says."""
    metric = CURVES[result.dataset.task]
    number = f"{100 * result.metrics['accuracy']:.2f} % correct" if metric == "accuracy" else _regression(result)
    return ReportData(
        title=f"{result.dataset.name}: {number}",
        data=_data(result),
        graph=result.graph.to_json(),
        winner=result.winner.number,
        result=Standing("this network", result.metrics, result.seconds, "search, training and baselines together"),
        trials=tuple(_row(t, metric) for t in result.trials),
        environment=_environment(result),
        baselines=tuple(Standing(s.name, dict(s.score.metrics), s.seconds, s.note) for s in result.standings),
        outcome=_outcome(result),
        theory=theory_facts(result.theory),
        score_name=f"validation {SCORES[metric][1]}",
        curve_x="epoch",
        curve_y=f"validation {metric}",
        usage_python=usage(result),
    )


def usage(result: "DesignResult") -> str:
    """How to use the written network from Python."""
    shape = ", ".join(str(n) for n in (1, *result.dataset.input_shape))
    answer = "classes" if result.dataset.task == "classification" else "standardised values"
    return (
        "import torch\n"
        "from model import load  # model.py, beside this page; needs torch, and safetensors to read the weights\n\n"
        'net = load("model.safetensors")\n'
        f"x = torch.zeros({shape})  # a row, preprocessed as preprocessing.json says\n"
        "with torch.no_grad():\n"
        f"    y = net(x)  # {answer}\n"
    )


def _regression(result: "DesignResult") -> str:
    return f"R² {result.metrics['r2']:.3f}, RMSE {result.metrics['rmse']:.4g}"


def _data(result: "DesignResult") -> DataFacts:
    d = result.dataset
    return DataFacts(
        name=d.name,
        task=d.task,
        input_shape=tuple(d.input_shape),
        train=d.sizes.train,
        validation=d.sizes.val,
        test=d.sizes.test,
        classes=tuple(d.classes),
        target=", ".join(d.target_names),
        notes=tuple(d.notes),
    )


def _row(trial: "Trial", metric: str) -> TrialRow:
    curve = tuple((float(p["epoch"]), float(p[metric])) for p in trial.curve if metric in p)
    value = trial.metrics.get(SCORES[metric][0])
    decisions = trial.decisions
    words = trial.words
    if trial.trained:
        words += f"; learning rate {decisions['learning_rate']:.1e}, batch {decisions['batch_size']}"
        words += "" if decisions.get("augment", "none") == "none" else f", {decisions['augment']} augmentation"
    return TrialRow(
        number=trial.number,
        words=words or "no network",
        state=trial.state,  # type: ignore[arg-type]
        why=trial.why,
        parameters=trial.parameters,
        budget=f"{len(trial.curve)} epochs, {trial.seconds:.1f} s" if trial.trained else "",
        score=None if value is None else float(value),
        curve=curve,
    )


def _outcome(result: "DesignResult") -> Confusion | Predictions:
    if result.dataset.task == "classification":
        classes = len(result.dataset.classes)
        counts = np.zeros((classes, classes), int)
        np.add.at(counts, (np.asarray(result.truth), np.asarray(result.predictions)), 1)
        return Confusion(tuple(tuple(int(v) for v in row) for row in counts))
    truth, predicted = (np.asarray(v, float).reshape(len(v), -1)[:, 0] for v in (result.truth, result.predictions))
    return Predictions(tuple(truth.tolist()), tuple(predicted.tolist()))


def theory_facts(theory: "Propagation") -> TheoryFacts:
    """Theory's numbers for the layers of a network."""
    rows = [row for row in theory.rows if isinstance(row.op, ops.LAYERS)]
    layers = tuple(LayerTheory(row.name, float(row.q), float(row.g)) for row in rows)
    scale = theory.totals.xi
    return TheoryFacts(layers, None if math.isnan(scale) else float(scale), theory.trains, theory.reason)


def _environment(result: "DesignResult") -> Environment:
    from depthscale.record import versions

    return Environment(
        seed=result.seed,
        seconds=result.seconds,
        command=result.command,
        hardware=hardware(),
        versions=versions(),
        finished=time.strftime("%Y-%m-%d %H:%M"),
    )


def hardware() -> str:
    """The machine in a few words."""
    import psutil

    memory = psutil.virtual_memory().total / 2**30
    return f"{platform.system()} {platform.machine()}, {psutil.cpu_count()} cores, {memory:.0f} GiB"
