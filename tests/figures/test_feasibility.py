REGION = [[int(i > j) for i in range(81)] for j in range(81)]
HOLDS = {
    "degree": [1, 2, 3, 4],
    "feasible": [False, False, True, True],
    "margin": [0.0, 0.0, 0.1, 0.2],
    "certificate_residual": [1e-16, 1e-15, 0.0, 0.0],
    "sign_changes": [1, 3, 2],
    "degree_needed": [1, 3, 2],
    "x": [[0.0, 0.0], [1.0, 1.0]],
    "y": [0, 1],
    "regions": {str(d): REGION for d in range(1, 5)},
}
FAILS = [
    HOLDS | {"feasible": [False, True, False, True]},
    HOLDS | {"feasible": [True] * 4},
    HOLDS | {"feasible": [False] * 4},
    HOLDS | {"degree_needed": [1, 3, 3]},
    HOLDS | {"certificate_residual": [1e-3, 0.0, 0.0, 0.0]},
    HOLDS | {"margin": [0.0, 0.0, -0.1, 0.2]},
]
