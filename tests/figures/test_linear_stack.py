from depthscale.figures import linear_stack

HOLDS = linear_stack.run(True, 0, lambda _: None)
FAILS = [
    HOLDS | {"linear_distance_from_a_plane": [1e-12, 0.3, 1e-12]},
    HOLDS | {"linear_loss": [0.125, 0.01, 0.125]},
    HOLDS | {"relu_distance_from_a_plane": [1e-12, 0.5, 0.5]},
    HOLDS | {"relu_loss": [0.1, 1e-9, 1e-9]},
]
