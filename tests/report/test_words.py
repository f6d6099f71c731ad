import math
from dataclasses import replace

from depthscale.report import ReportData, Standing, words
from tests.report.fakes import digits, prices


def with_scores(ours: float, theirs: float, n: int = 10_000) -> ReportData:
    data = digits()
    return replace(
        data,
        data=replace(data.data, test=n),
        result=replace(data.result, metrics={"accuracy": ours}),
        baselines=(Standing("logistic regression", {"accuracy": theirs}, 1.0), Standing("x", {"accuracy": 0.1}, 1.0)),
        outcome=None,
    )


def test_comparison_is_honest() -> None:
    assert words.comparison(with_scores(0.99, 0.92)).startswith("The network beats the best baseline, logistic")
    lost = words.comparison(with_scores(0.92, 0.99))
    assert lost.startswith(
        "Logistic regression beats the network: 99.00\u00a0% against 92.00\u00a0% on 10,000 test rows."
    )
    assert "the baseline is the better model" in lost
    close = words.comparison(with_scores(0.92, 0.93, 100))
    assert close.startswith("Logistic regression is ahead")
    assert "cannot tell the two apart" in close
    assert "the simpler choice" in close
    assert "score the same" in words.comparison(with_scores(0.9, 0.9))
    assert words.comparison(replace(digits(), baselines=())) == ""
    assert words.comparison(prices()).startswith("Histogram gradient boosting beats the network: ")


def test_tried_counts_every_trial_once() -> None:
    data = digits()
    text = " ".join(words.tried(data))
    states = [t.state for t in data.trials]
    theory = sum(t.why.startswith("theory") for t in data.trials)
    assert text.startswith("30 candidate networks were proposed.")
    assert f"Theory dropped {theory} of them before any training" in text
    trained = sum(s in ("complete", "pruned", "diverged") for s in states)
    assert f"{trained} were trained: {states.count('complete')} to the end" in text
    none = replace(data, trials=(data.won,))
    assert "Theory dropped none of them" in " ".join(words.tried(none))
    assert sum(n for n, _ in words.reasons(data)) == sum(s in ("dropped", "invalid") for s in states)
    assert sum(n for n, _ in words.reasons(data, most=2)) == sum(s in ("dropped", "invalid") for s in states)


def test_numbers() -> None:
    assert words.number(0.98502) == "0.9850"
    assert words.number(-12345.678) == "−12,346"
    assert words.number(3.25e-5) == "3.250·10⁻⁵"
    assert words.number(math.inf) == "∞"
    assert words.number(None) == words.number(math.nan) == "–"
    assert words.percent(1.0) == "100.00\u00a0%"
    assert words.percent(0.99999) == "99.999\u00a0%"  # never rounded up to all
    assert words.duration(0.0123) == "0.012 s"
    assert words.duration(59.6) == "60 s"
    assert words.duration(480) == "8 min 0 s"
    assert words.duration(7_300) == "2 h 1 min"


def test_headline_and_depth() -> None:
    value, meaning = words.headline(digits())
    assert value == "98.63\u00a0%"
    assert meaning == "test accuracy on 365 rows, 95 % interval 96.83\u00a0% to 99.41\u00a0%"  # as statsmodels has it
    assert "test RMSE of price on 4,000 rows, 95 % interval" in words.headline(prices())[1]
    assert "infinite" in words.depth_words(digits())
    assert "about 6.20 layers" in words.depth_words(prices())
