"""How deep can my activation go?

Bring an activation, any vectorised function. Theory gives the critical point, and away from it the depth that signals
survive. Here: a function nobody has named, beside tanh.
"""

import numpy as np

import depthscale as ds


def bent(x):
    """A leaky ramp with a kink at 0 and a soft ceiling."""
    return np.where(x < 0, 0.2 * x, np.log1p(np.abs(x)))


for name, function in (("tanh", "tanh"), ("my own", bent)):
    point = ds.critical_point(function, sb2=0.05)
    print(f"{name}: critical at sw2 = {float(point.sw2):.4f}, sb2 = 0.05, q = {float(point.q):.4f}")
    for factor in (0.8, 0.95, 0.99, 1.05, 1.2):
        depth = ds.depth_scale(function, sw2=factor * float(point.sw2), sb2=0.05)
        print(f"    sw2 at {factor:4.0%} of that: {depth}")
