import numpy as np

from depthscale.figures import shattered_gradients as figure

X = np.linspace(-2, 2, 256).tolist()
CORRELATION = np.eye(64).tolist()
HOLDS = {
    "x": X,
    "gradients": dict.fromkeys(figure.NAMES, X),
    "correlation": dict.fromkeys(figure.NAMES, CORRELATION),
    "shattering": dict(zip(figure.NAMES, (0.02, 0.3, 0.08), strict=True)),
    "noise": {"brown": X, "white": X},
    "networks": 12,
}
FAILS = [
    HOLDS | {"shattering": dict(zip(figure.NAMES, (0.02, 0.05, 0.04), strict=True))},
    HOLDS | {"shattering": dict(zip(figure.NAMES, (0.02, 0.3, 0.29), strict=True))},
    HOLDS | {"shattering": dict(zip(figure.NAMES, (0.3, 0.95, 0.4), strict=True))},
]
