def made(plain, residual):
    def rows(values):
        return [
            {"depth": d, "lr": 0.1, "train": [v - 0.01, v, v + 0.01], "val": [v - 0.05, v - 0.04, v - 0.03]}
            for d, v in zip((4, 16, 64), values, strict=True)
        ]

    return {"width": 32, "steps": 9, "rates": [0.1], "plain": rows(plain), "residual": rows(residual)}


HOLDS = made((0.98, 0.8, 0.3), (0.97, 0.98, 0.96))
FAILS = [
    made((0.98, 0.97, 0.96), (0.97, 0.98, 0.97)),  # nothing degrades
    made((0.98, 0.8, 0.3), (0.97, 0.8, 0.4)),  # residual networks, too
]
