"""Every network of the zoo can be read by theory, and those that people train every day are said to train."""

import math

import pytest

from depthscale import zoo
from depthscale.graph import ops
from depthscale.theory.propagate import propagate

SMALL = [n for n in zoo.names() if zoo.get(n).cost().parameters < 1.5e7]


@pytest.mark.parametrize("name", SMALL)
def test_theory_reads_the_network(name):
    theory = propagate(zoo.get(name))
    assert all(math.isfinite(row.q) and row.q >= 0 for row in theory.rows)
    weighted = [row for row in theory.rows if isinstance(row.op, ops.LAYERS)]
    assert all(row.g > 0 for row in weighted)  # every layer learns


@pytest.mark.parametrize("name", ["lenet5", "vgg16", "resnet50", "densenet121", "resnext50_32x4d", "vit_b_16"])
def test_what_trains_is_said_to_train(name):
    theory = propagate(zoo.get(name))
    assert theory.trains, theory.reason
