"""Named networks: each a function that returns a Graph, each family one short file over ``graph.blocks``.

``get("resnet50", num_classes=10)`` makes a network by name, ``names()`` lists them, ``entry(name)`` has its paper.
"""

from depthscale.zoo.alexnet import alexnet
from depthscale.zoo.convnet import convnet
from depthscale.zoo.densenet import densenet, densenet_cifar
from depthscale.zoo.dpn import dpn
from depthscale.zoo.images import ImageTooSmallError
from depthscale.zoo.inception_v1 import inception_v1, inception_v2
from depthscale.zoo.inception_v3 import inception_v3
from depthscale.zoo.inception_v4 import inception_resnet_v2, inception_v4
from depthscale.zoo.lenet import lenet5
from depthscale.zoo.metaqnn import metaqnn
from depthscale.zoo.mixer import mixer
from depthscale.zoo.mlp import mlp
from depthscale.zoo.nasbench101 import nasbench101
from depthscale.zoo.nasbench201 import nasbench201
from depthscale.zoo.nasnet import nasnet, pnasnet
from depthscale.zoo.random_wiring import randomly_wired
from depthscale.zoo.registry import entry, get, names
from depthscale.zoo.resnet import resnet, resnet_cifar, senet154, wide_resnet
from depthscale.zoo.vgg import vgg
from depthscale.zoo.vit import vit
from depthscale.zoo.weights import load_timm, load_torchvision

__all__ = [
    "ImageTooSmallError",
    "alexnet",
    "convnet",
    "densenet",
    "densenet_cifar",
    "dpn",
    "entry",
    "get",
    "inception_resnet_v2",
    "inception_v1",
    "inception_v2",
    "inception_v3",
    "inception_v4",
    "lenet5",
    "load_timm",
    "load_torchvision",
    "metaqnn",
    "mixer",
    "mlp",
    "names",
    "nasbench101",
    "nasbench201",
    "nasnet",
    "pnasnet",
    "randomly_wired",
    "resnet",
    "resnet_cifar",
    "senet154",
    "vgg",
    "vit",
    "wide_resnet",
]
