from math import comb

from depthscale.figures import residual_ensembles as figure

L = figure.BLOCKS
SHORT = [2.0 ** (3 - k) if k else 0.1 for k in range(L + 1)]
TOTAL = sum(SHORT)
HOLDS = {
    "counts": list(figure.COUNTS),
    "accuracy": {"residual": 0.96, "plain": 0.9},
    "lesions": {
        "residual": {str(n): [0.95 - 0.01 * n] * 2 for n in figure.COUNTS},
        "plain": {str(n): [0.2] * 2 for n in figure.COUNTS},
    },
    "gradient": SHORT,
    "lengths": [comb(L, k) / 2**L for k in range(L + 1)],
    "carried": [s / TOTAL for s in SHORT],
}
FAILS = [
    HOLDS | {"lesions": HOLDS["lesions"] | {"residual": HOLDS["lesions"]["plain"]}},
    HOLDS | {"lesions": HOLDS["lesions"] | {"plain": {str(n): [0.89] * 2 for n in figure.COUNTS}}},
    HOLDS | {"carried": HOLDS["carried"][::-1]},
]


def test_networks_that_did_not_learn_decide_nothing():
    assert figure.judge(HOLDS | {"accuracy": {"residual": 0.5, "plain": 0.2}}).kind == "undecided"
