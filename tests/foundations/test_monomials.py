import itertools

import numpy as np
import pytest
from hypothesis import given, strategies as st

from depthscale.errors import DepthscaleError
from depthscale.foundations.monomials import coefficients, exponents, monomials, refuse_absurd


@given(st.integers(0, 4), st.integers(0, 5))
def test_every_exponent_once(variables, degree):
    naive = {e for e in itertools.product(range(degree + 1), repeat=variables) if sum(e) <= degree}
    found = [tuple(int(i) for i in e) for e in exponents(variables, degree)]
    assert len(found) == len(set(found)) == coefficients(variables, degree)
    assert set(found) == naive
    assert [sum(e) for e in found] == sorted(sum(e) for e in found)


@given(st.integers(1, 4), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_values_are_products_of_powers(variables, degree, seed):
    x = np.random.default_rng(seed).normal(size=(3, variables))
    naive = np.prod(x[:, None, :] ** exponents(variables, degree)[None], axis=2)
    np.testing.assert_allclose(monomials(x, degree), naive, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("variables", "degree"), [(-1, 2), (2, -1), (2.5, 1), (True, 1), ("3", 1)])
def test_what_is_no_count(variables, degree):
    with pytest.raises(DepthscaleError, match="whole number"):
        coefficients(variables, degree)


def test_absurd_sizes_are_refused_with_what_would_fit():
    with pytest.raises(DepthscaleError, match=r"2,515,874,132,157 coefficients.*1 GiB.*largest degree that does is 2"):
        refuse_absurd(100, 784, 5, limit=2**30)
    with pytest.raises(DepthscaleError, match="fewer rows"):
        refuse_absurd(10**12, 2, 1, limit=2**30)
    assert refuse_absurd(100, 3, 2) == 10
    with pytest.raises(DepthscaleError, match=r"10\^6.*degree that does is 1"):
        refuse_absurd(10, 10**6, 10**6)
    with pytest.raises(DepthscaleError, match="degree that does is 4473923"):
        refuse_absurd(10, 1, 10**12, limit=2**30)
