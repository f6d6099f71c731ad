"""What scikit-learn asks of every estimator."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from depthscale.foundations import (
    ImplicitSurface,
    NetworkClassifier,
    NetworkRegressor,
    PolynomialClassifier,
    PolynomialCurve,
)


@pytest.mark.filterwarnings("ignore:.*independent surfaces", "ignore:the condition number", "ignore::Warning:sklearn.*")
@parametrize_with_checks(
    [
        PolynomialClassifier(),
        ImplicitSurface(),
        PolynomialCurve(),
        NetworkClassifier(epochs=12),  # the defaults take minutes
        NetworkRegressor(epochs=12),
    ]
)
def test_sklearn_contract(estimator, check):
    check(estimator)
