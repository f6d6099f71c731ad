import pytest
import torch

from depthscale.errors import TheoryError
from depthscale.theory.initialisations import initialisations


def by_name(activation, fan_in=256):
    return {i.name: i for i in initialisations(activation, fan_in)}


def test_pytorchs_default_is_what_pytorch_draws():
    torch.manual_seed(0)
    layer = torch.nn.Linear(400, 4000)
    default = by_name("relu", 400)["PyTorch default"]
    assert 400 * layer.weight.var().item() == pytest.approx(default.sw2, rel=0.01)
    assert layer.bias.var().item() == pytest.approx(default.sb2, rel=0.06)


@pytest.mark.parametrize("name", ["tanh", "selu"])
def test_gains_are_torchs(name):
    gain = torch.nn.init.calculate_gain(name)
    assert by_name(name)["Xavier with torch's gain"].sw2 == pytest.approx(gain**2)


def test_the_others():
    assert [(i.name, i.sw2) for i in initialisations("relu")][1:] == [("LeCun, Xavier", 1.0), ("Kaiming", 2.0)]
    with pytest.raises(TheoryError, match="fan_in"):
        initialisations("relu", 0)
