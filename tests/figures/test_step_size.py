import numpy as np

from depthscale.figures import step_size

SHARES = step_size.SHOWN
HOLDS = {
    "problem": ["regression", "network"],
    "momentum": [0.0, 0.9],
    "rate_found": [0.5, 1.0],
    "rate_predicted": [0.5, 1.01],
    "ratio": [1.0, 1 / 1.01],
    "shares": list(SHARES),
    "curves": {str(s): [1.0, 0.5, 0.1] if s < 1 else [1.0, 2.0, 9.0] for s in SHARES},
}
FAILS = [
    HOLDS | {"ratio": [1.0, 1.2]},
    HOLDS | {"curves": HOLDS["curves"] | {"0.5": [1.0, 1.1, 0.1]}},
    HOLDS | {"curves": HOLDS["curves"] | {"1.2": [1.0, 0.5, 0.1]}},
]


def test_the_turn_of_a_known_parabola():
    def loss(w):
        return 0.5 * 3 * float(w @ w), 3 * w

    found = step_size._turn(loss, np.zeros(2), 0.9, 0.0, 16)
    assert abs(found / (2 / 3) - 1) < 1e-3
