from depthscale.figures import exploding_start


def arm(accuracy, diverged_at=None):
    n = 4
    return {
        "accuracy": [accuracy] * n,
        "diverged_at": [diverged_at] * n,
        "losses": [[200.0, 20.0, 2.0] if diverged_at is None else [200.0, float("inf")] for _ in range(n)],
    }


def made(plain, clipped):
    return {"steps": 10, "arms": {"normal": plain, "normal, clipped": clipped, "He": arm(0.99)}}


HOLDS = made(arm(float("nan"), 4), arm(0.9))
FAILS = [made(arm(0.95), arm(0.95)), made(arm(float("nan"), 4), arm(0.3)), made(arm(0.1), arm(float("nan"), 9))]


def test_networks_that_stay_at_chance_are_lost_too():
    assert exploding_start.judge(made(arm(0.11), arm(0.9))).kind == "holds"
