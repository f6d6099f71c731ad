from depthscale.figures import convolution_matrix

HOLDS = convolution_matrix.run(True, 0, lambda _: None)
FAILS = [HOLDS | {"difference": [0.1, 0, 0, 0]}, HOLDS | {"distinct": [100, 9, 9, 32]}]
