def rows(gain, name="digits", other=0.0):
    found = []
    for setting in (name, "breast-cancer"):
        for seed in range(5):
            for k, schedule in enumerate(("developmental", "prune-only", "rigl", "fixed-large", "fixed-small")):
                noise = 0.001 * ((7 * seed + 3 * k) % 5 - 2)
                better = gain if schedule == "developmental" else other if schedule == "prune-only" else 0.0
                found.append(
                    {
                        "setting": setting,
                        "schedule": schedule,
                        "seed": seed,
                        "share": 1.0,
                        "accuracy": 0.9 + better + noise,
                        "parameters": 24000 if schedule == "fixed-large" else 8000,
                        "forgotten": 0.1 + noise,
                    }
                )
    return {"rows": found}


HOLDS = rows(0.02)
FAILS = [rows(-0.02), rows(0.02, other=0.05)]
