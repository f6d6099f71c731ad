import numpy as np
import pytest
from scipy import stats

from depthscale.errors import SearchError
from depthscale.search.compare import paired


@pytest.mark.parametrize("n", [5, 12, 30])
def test_against_scipys_permutation_test(n):
    rng = np.random.default_rng(n)
    a = rng.normal(0.4, 1, n)
    b = rng.normal(0, 1, n)
    found = paired(a, b)
    theirs = stats.permutation_test(
        (a - b,), lambda d: d.mean(), permutation_type="samples", n_resamples=20_000 if n > 14 else np.inf, rng=rng
    )
    assert found.p == pytest.approx(theirs.pvalue, abs=0.015 if n > 14 else 1e-9)
    assert found.difference == pytest.approx((a - b).mean())
    assert found.error == pytest.approx(stats.sem(a - b))


def test_no_difference_is_no_evidence():
    assert paired([1, 2, 3], [1, 2, 3]).p == 1


def test_few_pairs_cannot_be_significant():
    assert paired([1, 2, 3], [0, 0, 0]).p == 0.25


@pytest.mark.parametrize(("a", "b"), [([1], [1, 2]), ([], [])])
def test_bad_input(a, b):
    with pytest.raises(SearchError, match="as many numbers"):
        paired(a, b)
