def data(everywhere, best):
    names = ["cifar10", "cifar100", "imagenet16"]
    return {
        "all": dict.fromkeys(names, everywhere),
        "best": dict.fromkeys(names, best),
        "low": dict.fromkeys(names, best - 0.1),
        "high": dict.fromkeys(names, best + 0.1),
        "n": dict.fromkeys(names, 156),
        "points": {k: {"some": [[50.0, 60.0], [80.0, 90.0]], "best": [[70.0, 71.0], [93.0, 94.0]]} for k in names},
    }


HOLDS = data(0.8, 0.7)
FAILS = [data(0.8, 0.2), data(0.3, 0.2)]
