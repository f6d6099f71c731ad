from depthscale.figures import timeline

HOLDS = timeline.run(True, 0, lambda _: None)
FAILS = [HOLDS | {"per_decade_in_lulls": 3.0}]


def test_counting_by_hand():
    assert HOLDS["in_lulls"] == 1  # Werbos 1974
    assert HOLDS["inside"] == len(HOLDS["year"]) - 1
