from depthscale.figures.darts_collapse import FIGURE


def variant(rise, skips):
    return {
        "history": [[0.2, 0.2 + rise], [0.2, 0.2], [0.2, 0.2], [0.2, 0.2]],
        "rise": [rise, rise * 1.1, rise * 0.9],
        "skips": skips,
        "cells": [],
    }


def data(rise, skips, fair):
    return {"n": 3, "epoch": [0.0, 20.0], "variants": {"darts": variant(rise, skips), "fair": variant(0.1, fair)}}


HOLDS = data(0.3, [1.0, 0.83, 1.0], [0.33, 0.5, 0.33])
FAILS = [data(-0.1, [0.0, 0.17, 0.0], [0.0, 0.0, 0.0]), data(0.3, [1.0, 1.0, 1.0], [1.0, 1.0, 1.0])]


def test_a_short_search_does_not_refute():
    assert FIGURE.judge({**FAILS[0], "epoch": [0.0, 1.5]}).kind == "undecided"
