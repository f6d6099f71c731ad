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
        NetworkClassifier(),
        NetworkRegressor(),
    ]
)
def test_sklearn_contract(estimator, check):
    check(estimator)
