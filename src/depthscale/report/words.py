"""The report's sentences: what was tried, what won, and how it stands, said as it is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from depthscale.report.data import Predictions, ReportData, Standing
from depthscale.report.stats import rmse_interval, shares_differ, wilson

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def percent(share: float, digits: int = 2) -> str:
    """A share as per cent; 100 only where it is exactly that."""
    text = f"{100 * share:.{digits}f}"
    while share < 1 and float(text) >= 100 and digits < 8:
        digits += 1
        text = f"{100 * share:.{digits}f}"
    return f"{text}\u00a0%"


def number(value: float | None, digits: int = 4) -> str:
    """A number with so many significant digits; "–" where there is none."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e6:
        places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        return f"{value:,.{places}f}".replace("-", "−")
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    return mantissa.replace("-", "−") + "·10" + str(int(exponent)).translate(_RAISED)


def duration(seconds: float) -> str:
    """Seconds as a reader says them."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def plural(count: int, one: str, many: str = "") -> str:
    """1 candidate, 2 candidates."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def metric(data: ReportData) -> str:
    """The name of the metric that decides."""
    return "accuracy" if data.data.task == "classification" else "rmse"


def value_words(data: ReportData, value: float) -> str:
    """A value of the deciding metric."""
    return percent(value) if metric(data) == "accuracy" else number(value)


def interval(data: ReportData) -> tuple[float, float] | None:
    """95 % interval of the deciding metric on the test split, or None where it cannot be known."""
    if metric(data) == "accuracy":
        return wilson(data.result.metrics["accuracy"], data.data.test)
    if isinstance(data.outcome, Predictions):
        pairs = zip(data.outcome.predicted, data.outcome.truth, strict=True)
        return rmse_interval([p - t for p, t in pairs])
    return None


def headline(data: ReportData) -> tuple[str, str]:
    """The number on top of the page, and what it is."""
    value = data.result.metrics[metric(data)]
    kind = "test accuracy" if metric(data) == "accuracy" else f"test RMSE{_of_target(data)}"
    ends = interval(data)
    if ends is None:
        return value_words(data, value), f"{kind} on {plural(data.data.test, 'row')}"
    low, high = (value_words(data, end) for end in ends)
    return value_words(data, value), f"{kind} on {plural(data.data.test, 'row')}, 95 % interval {low} to {high}"


def _of_target(data: ReportData) -> str:
    return f" of {data.data.target}" if data.data.target else ""


def tried(data: ReportData) -> list[str]:
    """What happened to the candidates, a sentence each."""
    states = Counter(t.state for t in data.trials)
    theory = sum(t.state == "dropped" and t.why.startswith("theory") for t in data.trials)
    trained = sum(states[s] for s in ("complete", "pruned", "diverged"))
    sentences = [
        f"{plural(len(data.trials), 'candidate network')} {'was' if len(data.trials) == 1 else 'were'} proposed."
    ]
    if theory:
        sentences.append(
            f"Theory dropped {theory:,} of them before any training, "
            "because a signal or a gradient would not have come through."
        )
    else:
        sentences.append("Theory dropped none of them: each was critically initialised, and each can train.")
    if rest := states["dropped"] - theory:
        sentences.append(f"{plural(rest, 'more was', 'more were')} not trained for other reasons (the table says why).")
    if states["invalid"]:
        sentences.append(f"{plural(states['invalid'], 'proposal')} did not fit the shape of the data.")
    parts = []
    if states["complete"]:
        parts.append(f"{states['complete']:,} to the end")
    if states["pruned"]:
        parts.append(f"{states['pruned']:,} until successive halving stopped them")
    if states["diverged"]:
        parts.append(f"{states['diverged']:,} until the loss diverged")
    sentences.append(f"{plural(trained, 'was', 'were')} trained: {', '.join(parts)}." if parts else "None was trained.")
    return sentences


def reasons(data: ReportData, most: int = 6) -> list[tuple[int, str]]:
    """Why candidates were not trained, the commonest reason first, with how many it stopped."""
    whys = Counter(t.why for t in data.trials if t.state in ("dropped", "invalid") and t.why)
    ranked = [(n, why) for why, n in whys.most_common()]
    if len(ranked) > most:
        ranked = [*ranked[: most - 1], (sum(n for n, _ in ranked[most - 1 :]), "other reasons, in the table of trials")]
    return ranked


def comparison(data: ReportData) -> str:
    """How the network stands beside the baselines, honestly."""
    if not data.baselines:
        return ""
    key = metric(data)
    better = max if key == "accuracy" else min
    best = better(data.baselines, key=lambda s: s.metrics[key])
    ours, theirs = data.result.metrics[key], best.metrics[key]
    n = plural(data.data.test, "test row")
    if ours == theirs:
        return f"The network and the best baseline, {best.name}, score the same ({value_words(data, ours)} on {n})."
    wins = (ours > theirs) == (key == "accuracy")
    margin = f"{value_words(data, ours)} against {value_words(data, theirs)}"
    if not _told_apart(data, best):
        lead = f"The network is ahead of the best baseline, {best.name}" if wins else f"{capital(best.name)} is ahead"
        simpler = "" if wins else " The baseline is the simpler choice."
        return f"{lead} ({margin}), but {n} cannot tell the two apart with confidence.{simpler}"
    if wins:
        return f"The network beats the best baseline, {best.name}: {margin} on {n}."
    return (
        f"{capital(best.name)} beats the network: {value_words(data, theirs)} against {value_words(data, ours)} "
        f"on {n}. "
        "For these data the baseline is the better model; the network is worth its cost only where a network is needed."
    )


def _told_apart(data: ReportData, other: Standing) -> bool:
    if metric(data) == "accuracy":
        return shares_differ(data.result.metrics["accuracy"], other.metrics["accuracy"], data.data.test)
    ends = interval(data)
    return ends is None or not ends[0] <= other.metrics["rmse"] <= ends[1]


def capital(text: str) -> str:
    """The text with its first letter large and nothing else changed."""
    return text[:1].upper() + text[1:]


def ordered(data: ReportData) -> list[Standing]:
    """The network and the baselines, the best first."""
    key = metric(data)
    standings: Sequence[Standing] = (data.result, *data.baselines)
    return sorted(standings, key=lambda s: -s.metrics[key] if key == "accuracy" else s.metrics[key])


def depth_words(data: ReportData) -> str:
    """What the depth scale says about this network."""
    theory = data.theory
    if theory is None or theory.depth_scale is None:
        return ""
    if math.isinf(theory.depth_scale):
        return "The depth scale is infinite: the network stands at criticality, and depth by itself loses no signal."
    layers = len(theory.layers)
    share = f"; this network has {layers} layers" if layers else ""
    return f"A signal keeps its differences over about {number(theory.depth_scale, 3)} layers{share}."


def usage(data: ReportData) -> str:
    """Python that loads the network."""
    if data.usage_python:
        return data.usage_python
    shape = ", ".join(map(str, data.data.input_shape))
    return (
        "import torch\n"
        "from model import Model  # model.py, beside this report; needs torch and safetensors only\n\n"
        'net = Model.load("model.safetensors").eval()\n'
        f"x = torch.zeros(1, {shape})  # preprocessed as preprocessing.json says\n"
        "with torch.no_grad():\n"
        "    y = net(x)\n"
    )
