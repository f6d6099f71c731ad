from depthscale.figures.rl_against_random import FIGURE


def data(policy, q, p_policy=0.001, p_q=0.001):
    names = ["policy", "q-learning", "evolution", "mcts", "local"]
    return {
        "queries": 100,
        "n": 10,
        "mean": {k: [93.0, 93.5, 94.0] for k in ["random", *names]},
        "difference": dict(zip(names, [policy, q, 0.1, 0.0, 0.2], strict=True)),
        "error": dict.fromkeys(names, 0.05),
        "p": dict(zip(names, [p_policy, p_q, 0.2, 0.9, 0.1], strict=True)),
        "best": 94.37,
    }


HOLDS = data(0.3, 0.2)
FAILS = [data(-0.3, -0.2), data(0.1, 0.05, 0.4, 0.3), data(-0.3, 0.3), data(0.3, 0.05, 0.001, 0.4)]


def test_few_noisy_pairs_decide_nothing():
    assert FIGURE.judge({**data(0.1, 0.1, 0.5, 0.5), "error": dict.fromkeys(HOLDS["error"], 0.15)}).kind == "undecided"
