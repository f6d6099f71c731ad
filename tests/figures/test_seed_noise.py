def data(noise):
    return {
        "queries": 150,
        "n": 6,
        "groups": 3,
        "noise": noise,
        "each": [noise, noise * 0.9, noise * 1.1],
        "spread": [0.5, 0.52, 0.48, 0.51, 0.49, 0.5],
        "spread_test": [0.1] * 6,
    }


HOLDS = data(0.45)
FAILS = [data(0.2)]
