from dataclasses import replace

import pytest

from depthscale.errors import DepthscaleError
from depthscale.report import Confusion, Predictions, ReportData, Standing
from tests.report.fakes import digits, prices


@pytest.mark.parametrize("make", [digits, lambda: prices(50)])
def test_json_round_trip(make) -> None:
    data = make()
    text = data.to_json()
    assert ReportData.from_json(text).to_json() == text
    back = ReportData.from_json(text)
    assert type(back.outcome) is type(data.outcome)
    assert back.graph == data.graph
    assert back.theory == data.theory  # infinities among them
    assert back.trials[7] == data.trials[7]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"title": 1}', '{"nonsense": 1}', "[" * 100_000])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(DepthscaleError, match="expected the JSON of a report"):
        ReportData.from_json(text)


def test_contradictions_are_refused() -> None:
    data = digits()
    with pytest.raises(DepthscaleError, match="winner to be one of 30 trials, got number 99"):
        replace(data, winner=99)
    with pytest.raises(DepthscaleError, match="expected accuracy among the metrics of 'x'"):
        replace(data, baselines=(Standing("x", {"rmse": 1.0}, 0.1),))
    with pytest.raises(DepthscaleError, match="confusion matrix of 10 classes"):
        replace(data, outcome=Confusion(((1, 0), (0, 1))))
    with pytest.raises(DepthscaleError, match="as many predictions as true values, got 1 and 2"):
        replace(prices(5), outcome=Predictions((1.0, 2.0), (1.0,)))
    with pytest.raises(DepthscaleError, match="state to be one of complete, .* got 'asleep'"):
        replace(data, trials=(replace(data.won, state="asleep"),))  # type: ignore[arg-type]
