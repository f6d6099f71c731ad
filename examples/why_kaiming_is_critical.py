"""Why Kaiming's law is critical for ReLU, and PyTorch's gain of 5/3 is not for tanh.

A law is critical when two nearby inputs neither merge nor part as they go through the layers: chi1 = 1.
"""

import depthscale as ds
from depthscale import zoo
from depthscale.graph import laws

DEPTH = 50
cases = {
    "ReLU, Kaiming (sw2 = 2)": ("relu", laws.HE),
    "ReLU, PyTorch's default (sw2 = 1/3)": ("relu", laws.TORCH_DEFAULT),
    "tanh, gain 1 (sw2 = 1)": ("tanh", laws.LECUN),
    "tanh, gain 5/3 (sw2 = 25/9)": ("tanh", laws.variance(25 / 9)),
}
for name, (act, law) in cases.items():
    net = zoo.mlp((256, *[256] * DEPTH, 10), act, weight=law, first=law)
    theory = ds.propagate(net)
    layers = [row for row in theory.rows if row.kind == "Linear"]
    first, last = layers[0], layers[-2]
    print(f"{name}: over {DEPTH} layers")
    print(f"    length q {first.q:.3g} → {last.q:.3g}, correlation of two inputs {first.c:.3f} → {last.c:.3f}")
    print(f"    gradient (second moment) at the last layer is {last.g / first.g:.3g} times that at the first")
    print(f"    verdict: {theory.reason}")
