import pytest

from depthscale.figures import universal_approximation

HOLDS = universal_approximation.run(True, 0, lambda _: None)
FAILS = [
    HOLDS | {"exponent": HOLDS["exponent"] | {"smooth": 1.0}},
    HOLDS | {"error_rough": [1.0] * len(HOLDS["width"])},
    HOLDS | {"steps_cusped": [1.0] * len(HOLDS["width"])},
]


def test_the_cusp_is_off_by_a_quarter_of_the_root_of_the_first_gap():
    expected = [0.25 * w**-0.5 for w in HOLDS["width"]]
    assert HOLDS["error_cusped"] == pytest.approx(expected, rel=2e-3)
