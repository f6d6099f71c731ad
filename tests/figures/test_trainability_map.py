import math

import numpy as np

from depthscale.figures import trainability_map
from depthscale.train.sweep import agreement
from depthscale.train.sweep.predict import predict

SW2 = np.array([1.0, 1.2, 1.5, 2.2, 2.8, 3.4, 4.0])
DEPTH = np.array([5, 8, 12, 18, 27, 40, 60, 90, 150, 300])


def made(ordered=5.0, chaotic=5.0, deepest=10):
    guess = predict("tanh", SW2, 0.05, residual=None, data_length=1.0)
    constant = np.where(np.array(guess.phase) == "ordered", ordered, chaotic)
    depth = DEPTH[:deepest]
    score = 0.1 + 0.9 / (1 + (depth[:, None] / (constant * guess.xi_c)) ** 8)
    found = agreement(SW2.tolist(), depth.tolist(), score, guess.xi_c, guess.phase, 0.1)
    curve = {"name": "6 xi", "sw2": SW2.tolist(), "depth": (6 * guess.xi_c).tolist(), "style": "--", "colour": "black"}
    shown = {
        "title": "t", "label": "accuracy", "depth": depth.tolist(), "sw2": SW2.tolist(), "score": score.tolist(),
        "low": 0.1, "high": 1.0, "measured": [c.measured for c in found.columns], "critical": 1.76, "footnote": "",
        "curves": [curve],
    }  # fmt: skip
    return {
        "networks": score.size, "steps": 1, "sides": {k: list(v) for k, v in found.side.items()},
        "rule": {k: list(v) for k, v in found.rule.items()}, "constant": found.constant,
        "constant_error": found.constant_error, "picture": shown,
    }  # fmt: skip


HOLDS = made()
FAILS = [made(ordered=15.0, chaotic=3.0)]


def test_columns_without_a_boundary_are_no_verdict():
    found = made(deepest=4)
    assert trainability_map.judge(found).kind == "undecided"
    assert math.isnan(found["sides"]["all"][0]) or found["sides"]["all"][2] < 4
