"""Can a polynomial of degree d tell two classes apart? Either the surface that does it, or a proof that none can."""

import numpy as np

from depthscale.foundations import PolynomialClassifier

rng = np.random.default_rng(0)
x = rng.uniform(-1, 1, (200, 2))
inside = np.hypot(*x.T) < 0.6  # a disc: a circle separates it, no line does

for degree in (1, 2):
    model = PolynomialClassifier(degree).fit(x, inside)
    proof = model.certificates_[0]
    print(f"degree {degree}:", f"margin {model.margins_[0]:.3f}" if proof is None else proof)

assert PolynomialClassifier("auto").fit(x, inside).degree_ == 2
