"""What every figure owes: tests beside it that give data for and against its claim.

The test file of ``figures/NAME.py`` is ``tests/figures/test_NAME.py``; it defines HOLDS, data for which the claim
holds, and FAILS, a list of data that contradict it, at least one. Both are as ``run`` returns them.
"""

from importlib import import_module

import pytest

from depthscale import record
from depthscale.figures import gallery
from depthscale.figures.style import styled

ENTRIES = gallery.entries()


def given(entry):
    """The test file's HOLDS and FAILS, as they are after a visit to JSON."""
    module = import_module(f"tests.figures.test_{entry.module}")
    return record.loads(record.dumps(module.HOLDS)), [record.loads(record.dumps(d)) for d in module.FAILS]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_a_figure_is_complete(entry):
    figure = entry.figure
    assert figure is not None, entry.error
    assert figure.name == entry.module.replace("_", "-")
    assert figure.title.strip()
    assert figure.claim.strip().endswith(".")
    assert figure.source.strip()
    assert 0 <= figure.order < 600


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_the_judge_sees_data_that_contradict_the_claim(entry):
    holds, fails = given(entry)
    verdict = entry.figure.judge(holds)
    assert verdict.kind == "holds", verdict.reason
    assert fails, "give data that contradict the claim"
    for data in fails:
        verdict = entry.figure.judge(data)
        assert verdict.kind == "fails", verdict.reason
        assert any(c.isdigit() for c in verdict.reason), "the statistic that decides belongs in the reason"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_the_picture_is_drawn(entry):
    with styled():
        picture = entry.figure.draw(given(entry)[0])
        picture.draw_without_rendering()
    assert picture.axes


def test_names_and_places_are_unique():
    assert len({e.name for e in ENTRIES}) == len(ENTRIES)
    orders = [e.figure.order for e in ENTRIES]
    assert sorted(orders) == orders
    assert len(set(orders)) == len(orders)
