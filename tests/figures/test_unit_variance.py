import math

from depthscale.figures import unit_variance

HOLDS = {
    "depth": 50,
    "seeds": 2,
    "q": {"LSUV": [1.0] * 50, "critical": [1.0 / (1 + i) for i in range(50)]},
    "gradient": {"LSUV": [50.0 ** (1 - i / 49) for i in range(50)], "critical": [1.0] * 50},
    "ratio": {"LSUV": [1 / 60, 1 / 50], "critical": [1.5, 2.0]},
    "predicted": 1 / 58,
}
FAILS = [
    HOLDS | {"ratio": {"LSUV": [1.2, 0.9], "critical": [1.0, 1.0]}},
    HOLDS | {"q": HOLDS["q"] | {"LSUV": [1.0] * 49 + [1.2]}},
    HOLDS | {"predicted": 1 / 5000},
]


def test_theory_s_factor_by_monte_carlo():
    import torch

    z = torch.randn(4_000_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = torch.tanh(z)
    chi = float((1 - t * t).square().mean() / t.square().mean())
    assert abs(math.log(unit_variance._chi(50)) + 49 / 2 * math.log(chi)) < 0.05
