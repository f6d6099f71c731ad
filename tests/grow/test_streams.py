"""Streams: what each stage shows, and forgetting by hand."""

import math

import numpy as np
import pytest

from depthscale.errors import DepthscaleError
from depthscale.grow.experiment import Rows, Setting
from depthscale.grow.streams import Forgetting, run_stream, stream
from depthscale.zoo import mlp


def rows(seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(400, 1, 4, 4)).astype(np.float32), rng.integers(0, 4, 400)
    x[np.arange(400), 0, y, 0] += 3
    return Rows(x[:300], y[:300], x[300:], y[300:], 4)


def test_forgetting_by_hand():
    found = Forgetting(((0.9, math.nan, math.nan), (0.5, 0.8, math.nan), (0.6, 0.7, 0.9)))
    assert found.final == pytest.approx((0.6 + 0.7 + 0.9) / 3)
    assert found.forgotten == pytest.approx(((0.9 - 0.6) + (0.8 - 0.7)) / 2)
    assert found.learned == pytest.approx((0.9 + 0.8 + 0.9) / 3)


def test_what_each_stage_shows():
    given = rows()
    permuted = stream("permuted", given, 3, 0)
    assert np.array_equal(permuted[0].x, given.x)
    assert not np.array_equal(permuted[1].x, given.x)
    assert np.array_equal(np.sort(permuted[1].x[5].ravel()), np.sort(given.x[5].ravel()))
    assert np.array_equal(permuted[1].x[7].ravel()[np.argsort(permuted[1].x[3].ravel())].shape, (16,))
    turned = stream("rotated", given, 4, 0)  # by 0, 30, 60 and 90 degrees
    assert np.allclose(turned[3].x[0, 0], np.rot90(given.x[0, 0]), atol=1e-4)
    drift = stream("drift", given, 3, 0)
    assert np.allclose(drift[0].x, given.x, atol=1e-6)
    classes = stream("classes", given, 2, 0)
    assert len(set(classes[0].y)) == 2
    assert not set(classes[0].y_test) & set(classes[1].y_test)
    old = np.isin(classes[1].y, classes[0].y)
    assert 0 < old.mean() < 0.25


def test_streams_that_cannot_be():
    flat = Rows(rows().x.reshape(300, -1), rows().y, rows().x_test.reshape(100, -1), rows().y_test, 4)
    with pytest.raises(DepthscaleError, match="images to rotate"):
        stream("rotated", flat, 2, 0)
    with pytest.raises(DepthscaleError, match="a stream of permuted"):
        stream("shuffled", flat, 2, 0)
    with pytest.raises(DepthscaleError, match="at most 4 stages"):
        stream("classes", flat, 5, 0)


@pytest.mark.parametrize("name", ["developmental", "rigl", "grow-only", "prune-only", "fixed-small"])
def test_a_schedule_goes_through_a_stream(name):
    setting = Setting("toy", rows, mlp((16, 8, 8, 4), input_shape=(1, 4, 4)), 900, 300, 2e7, batch=32)
    found = run_stream(setting, "permuted", name, 0, stages=2)
    assert found["parameters"] <= 300
    assert found["largest"] <= 900
    assert 0.2 < found["accuracy"] <= 1
    assert found["after"][0][1] is None
    assert found["flops"] == pytest.approx(2e7, rel=0.15)
