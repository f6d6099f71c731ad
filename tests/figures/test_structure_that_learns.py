import pytest

from depthscale.figures._growth import MARKS
from depthscale.figures.structure_that_learns import FIGURE
from depthscale.grow import verdict
from depthscale.grow.experiment import SCHEDULES


def rows(gain, name="digits", other=0.0):
    found = []
    for setting in (name, "breast-cancer"):
        for seed in range(5):
            for k, schedule in enumerate(("developmental", "prune-only", "rigl", "fixed-large", "fixed-small")):
                noise = 0.001 * ((7 * seed + 3 * k) % 5 - 2)
                better = gain if schedule == "developmental" else other if schedule == "prune-only" else 0.0
                found.append(
                    {
                        "setting": setting,
                        "schedule": schedule,
                        "seed": seed,
                        "share": 1.0,
                        "accuracy": 0.9 + better + noise,
                        "parameters": 24000 if schedule == "fixed-large" else 8000,
                        "forgotten": 0.1 + noise,
                    }
                )
    return {"rows": found}


HOLDS = rows(0.02)
FAILS = [rows(-0.02), rows(0.02, other=0.05)]


def test_every_schedule_can_be_told_from_every_other():
    assert set(MARKS) == set(SCHEDULES)
    for part in zip(*MARKS.values(), strict=True):
        assert len(set(part)) == len(MARKS)  # colours, and markers for those who cannot tell them


def test_points_are_where_the_runs_are():
    figure = FIGURE.draw(HOLDS)
    for axes, setting in zip(figure.axes, ("digits", "breast-cancer"), strict=True):
        assert axes.get_title() == setting
        handles, labels = axes.get_legend_handles_labels()
        for bars, name in zip(handles, labels, strict=True):
            own = [r for r in HOLDS["rows"] if r["setting"] == setting and r["schedule"] == name]
            (x,), (y,) = bars.lines[0].get_data()
            assert x == pytest.approx(sum(r["parameters"] for r in own) / len(own), rel=0.15)  # set apart
            assert y == pytest.approx(sum(100 * r["accuracy"] for r in own) / len(own))


def test_the_verdict_is_one_for_each_budget():
    both = [r | {"share": s} for s, data in ((1.0, HOLDS), (4.0, FAILS[0])) for r in data["rows"]]
    assert verdict.verdict(both) == verdict.verdict(HOLDS["rows"])
    late = verdict.verdict(both, share=4.0)
    assert late.wins == 0
    assert late.front == ()
    assert verdict.verdict(both, share=0.25).settings == ()
