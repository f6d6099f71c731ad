"""Named networks: each a function that returns a Graph, each family one short file over ``graph.blocks``."""

from depthscale.zoo.lenet import lenet5
from depthscale.zoo.mlp import mlp
from depthscale.zoo.resnet import resnet
from depthscale.zoo.vgg import vgg

__all__ = ["lenet5", "mlp", "resnet", "vgg"]
