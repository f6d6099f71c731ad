"""The named networks: name → function and arguments, paper, year. A plain table; nothing registers itself.

Names are torchvision's and timm's where those have the network. Case, hyphens, underscores and dots in a name do not
matter. Text behind a colon goes to networks that are written as text: ``nasbench201:|nor_conv_3x3~0|+…``.
"""

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from depthscale.errors import GraphError
from depthscale.graph import Graph
from depthscale.zoo.alexnet import alexnet
from depthscale.zoo.convnet import convnet
from depthscale.zoo.densenet import densenet, densenet_cifar
from depthscale.zoo.dpn import dpn
from depthscale.zoo.inception_v1 import inception_v1, inception_v2
from depthscale.zoo.inception_v3 import inception_v3
from depthscale.zoo.inception_v4 import inception_resnet_v2, inception_v4
from depthscale.zoo.lenet import lenet5
from depthscale.zoo.metaqnn import metaqnn
from depthscale.zoo.mixer import mixer
from depthscale.zoo.mlp import mlp_classifier
from depthscale.zoo.nasbench101 import nasbench101
from depthscale.zoo.nasbench201 import nasbench201
from depthscale.zoo.nasnet import nasnet, pnasnet
from depthscale.zoo.random_wiring import randomly_wired
from depthscale.zoo.resnet import resnet, resnet_cifar, senet154, wide_resnet
from depthscale.zoo.vgg import vgg
from depthscale.zoo.vit import vit

Network = Callable[..., Graph]


@dataclass(frozen=True)
class Entry:
    """A named network; called, it makes the graph."""

    name: str
    function: Network
    paper: str
    year: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    text: str | None = None  # the argument that text behind a colon is

    @property
    def family(self) -> str:
        """The file under ``zoo/`` that the network is written in."""
        return str(self.function.__module__).rpartition(".")[2]

    @property
    def takes(self) -> tuple[str, ...]:
        """Names of the arguments that may be given."""
        return tuple(inspect.signature(self.function).parameters)

    def __call__(self, **given: Any) -> Graph:
        """The graph; arguments override those of the entry. GraphError for an argument that it does not take."""
        for name in given:
            if name not in self.takes:
                near = difflib.get_close_matches(name, self.takes, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise GraphError(f"{self.name} takes the arguments {', '.join(self.takes)}, got {name!r}{hint}")
        return self.function(**{**self.arguments, **given})


_RESNET = ("He et al., Deep residual learning for image recognition", 2016)
_RESNEXT = ("Xie et al., Aggregated residual transformations for deep neural networks", 2017)
_WIDE = ("Zagoruyko & Komodakis, Wide residual networks", 2016)
_SENET = ("Hu et al., Squeeze-and-excitation networks", 2018)
_IDENTITY = ("He et al., Identity mappings in deep residual networks", 2016)
_STOCHASTIC = ("Huang et al., Deep networks with stochastic depth", 2016)
_DENSENET = ("Huang et al., Densely connected convolutional networks", 2017)
_VGG = ("Simonyan & Zisserman, Very deep convolutional networks for large-scale image recognition", 2015)
_DPN = ("Chen et al., Dual path networks", 2017)
_GOING = ("Szegedy et al., Going deeper with convolutions", 2015)
_V4 = ("Szegedy et al., Inception-v4, Inception-ResNet and the impact of residual connections on learning", 2017)
_NASNET = ("Zoph et al., Learning transferable architectures for scalable image recognition", 2018)
_PNASNET = ("Liu et al., Progressive neural architecture search", 2018)
_RANDWIRE = ("Xie et al., Exploring randomly wired neural networks for image recognition", 2019)
_MIXER = ("Tolstikhin et al., MLP-Mixer: an all-MLP architecture for vision", 2021)
_VIT = ("Dosovitskiy et al., An image is worth 16x16 words", 2021)
_DEIT = ("Touvron et al., Training data-efficient image transformers", 2021)

_Row = tuple[str, Network, tuple[str, int], dict[str, Any]]


def _rows() -> Iterator[_Row]:
    yield "mlp", mlp_classifier, ("Rumelhart et al., Learning representations by back-propagating errors", 1986), {}
    yield "convnet", convnet, _VGG, {}
    yield "lenet5", lenet5, ("LeCun et al., Gradient-based learning applied to document recognition", 1998), {}
    yield "alexnet", alexnet, ("Krizhevsky et al., ImageNet classification with deep convolutional networks", 2012), {}
    for depth in (11, 13, 16, 19):
        yield f"vgg{depth}", vgg, _VGG, {"depth": depth}
        yield f"vgg{depth}_bn", vgg, _VGG, {"depth": depth, "norm": "batch"}
    yield from _residual_rows()
    for depth in (121, 161, 169, 201):
        yield f"densenet{depth}", densenet, _DENSENET, {"depth": depth}
    yield "densenet40_k12", densenet_cifar, _DENSENET, {"depth": 40, "growth": 12, "bottleneck": False}
    yield "densenet_bc100_k12", densenet_cifar, _DENSENET, {"depth": 100, "growth": 12}
    for depth in (68, 92, 98, 131, 107):
        yield f"dpn{depth}", dpn, _DPN, {"depth": depth}
    yield "inception_v1", inception_v1, _GOING, {}
    yield "inception_v1_paper", inception_v1, _GOING, {"variant": "paper"}
    yield "inception_v2", inception_v2, ("Ioffe & Szegedy, Batch normalization", 2015), {}
    yield "inception_v3", inception_v3, ("Szegedy et al., Rethinking the Inception architecture", 2016), {}
    yield "inception_v4", inception_v4, _V4, {}
    yield "inception_resnet_v2", inception_resnet_v2, _V4, {}
    yield from _searched_rows()
    for size, patch in (("small", 32), ("small", 16), ("base", 32), ("base", 16), ("large", 32), ("large", 16)):
        yield f"mixer_{size[0]}{patch}", mixer, _MIXER, {"size": size, "patch": patch}
    yield "mixer_h14", mixer, _MIXER, {"size": "huge", "patch": 14}
    yield "vit_ti_16", vit, _DEIT, {"size": "tiny", "patch": 16}
    yield "vit_s_16", vit, _DEIT, {"size": "small", "patch": 16}
    for size, patch in (("base", 16), ("base", 32), ("large", 16), ("large", 32), ("huge", 14)):
        yield f"vit_{size[0]}_{patch}", vit, _VIT, {"size": size, "patch": patch}
    yield "vit_small_image", vit, _VIT, {"size": "tiny", "patch": 4, "image_size": 32, "num_classes": 10}


def _residual_rows() -> Iterator[_Row]:
    for depth in (18, 34, 50, 101, 152):
        yield f"resnet{depth}", resnet, _RESNET, {"depth": depth}
    for depth in (50, 101, 152):
        yield f"resnetv2_{depth}", resnet, _IDENTITY, {"depth": depth, "preactivation": True}
    for depth, width in ((50, 4), (101, 8)):
        arguments = {"depth": depth, "groups": 32, "width_per_group": width}
        yield f"resnext{depth}_32x{width}d", resnet, _RESNEXT, arguments
    yield "resnext101_64x4d", resnet, _RESNEXT, {"depth": 101, "groups": 64, "width_per_group": 4}
    for depth in (50, 101):
        yield f"wide_resnet{depth}_2", resnet, _WIDE, {"depth": depth, "width_per_group": 128}
    for depth in (50, 101, 152):
        yield f"seresnet{depth}", resnet, _SENET, {"depth": depth, "squeeze": 16}
    for depth in (50, 101):
        arguments = {"depth": depth, "groups": 32, "width_per_group": 4, "squeeze": 16}
        yield f"seresnext{depth}_32x4d", resnet, _SENET, arguments
    yield "senet154", senet154, _SENET, {}
    for depth in (20, 32, 44, 56, 110):
        yield f"resnet{depth}", resnet_cifar, _RESNET, {"depth": depth}
    yield "resnet110_stochastic", resnet_cifar, _STOCHASTIC, {"depth": 110, "drop_path": 0.5}
    yield "resnetv2_110", resnet_cifar, _IDENTITY, {"depth": 110, "preactivation": True}
    for depth, widen in ((16, 8), (28, 10), (40, 4)):
        yield f"wrn{depth}_{widen}", wide_resnet, _WIDE, {"depth": depth, "widen": widen}


def _searched_rows() -> Iterator[_Row]:
    yield "nasbench101", nasbench101, ("Ying et al., NAS-Bench-101", 2019), {}
    yield "nasbench201", nasbench201, ("Dong & Yang, NAS-Bench-201", 2020), {}
    yield "nasnetalarge", nasnet, _NASNET, {}
    yield "nasnetamobile", nasnet, _NASNET, {"repeats": 4, "filters": 1056, "stem_width": 32, "image_size": 224}
    small = {"num_classes": 10, "image_size": 32}
    yield "nasneta_cifar", nasnet, _NASNET, {"repeats": 6, "filters": 768, **small}
    yield "pnasnet5large", pnasnet, _PNASNET, {}
    yield "pnasnet5_cifar", pnasnet, _PNASNET, {"repeats": 3, "filters": 960, **small}
    yield "metaqnn", metaqnn, ("Baker et al., Designing neural network architectures using RL", 2017), {}
    for kind in ("ws", "er", "ba"):
        yield f"randwire_{kind}", randomly_wired, _RANDWIRE, {"kind": kind}
    yield "randwire_ws_regular", randomly_wired, _RANDWIRE, {"kind": "ws", "regular": True, "width": 109}


_TEXT = {"nasbench201": "cell", "metaqnn": "layers"}
ENTRIES: Mapping[str, Entry] = MappingProxyType(
    {
        name: Entry(name, function, *source, MappingProxyType(arguments), _TEXT.get(name))
        for name, function, source, arguments in _rows()
    }
)
ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "lenet": "lenet5",
        "googlenet": "inception_v1",
        "bn_inception": "inception_v2",
        "legacy_senet154": "senet154",
        "wrn50_2": "wide_resnet50_2",
        "wrn101_2": "wide_resnet101_2",
        "nasnet": "nasnetalarge",
        "pnasnet": "pnasnet5large",
        **{f"vit_{size}_patch16_224": f"vit_{short}_16" for size, short in (("tiny", "ti"), ("small", "s"))},
        **{f"vit_{size}_patch{p}_224": f"vit_{size[0]}_{p}" for size in ("base", "large") for p in (16, 32)},
        **{f"mixer_{n}_224": f"mixer_{n}" for n in ("s32", "s16", "b32", "b16", "l32", "l16")},
    }
)


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c not in "-_. ")


_PLAIN = {_plain(name): name for name in ENTRIES} | {_plain(alias): name for alias, name in ALIASES.items()}


def names() -> tuple[str, ...]:
    """The names of all networks, family by family."""
    return tuple(ENTRIES)


def entry(name: str) -> Entry:
    """The entry of a name; GraphError with the nearest names for one that is unknown."""
    found = _PLAIN.get(_plain(name))
    if found is None:
        near = difflib.get_close_matches(_plain(name), _PLAIN, 3)
        hint = f"did you mean {' or '.join(dict.fromkeys(_PLAIN[n] for n in near))}?" if near else "see zoo.names()"
        raise GraphError(f"expected the name of a network of the zoo, got {name!r}; {hint}")
    return ENTRIES[found]


def get(name: str, **arguments: Any) -> Graph:
    """The graph of a named network: ``get("resnet50", num_classes=10, in_channels=1, image_size=32)``.

    Raises GraphError for an unknown name (the nearest are suggested), an argument that the network does not take, and
    an image too small for it (layer and sufficient size are named).
    """
    head, colon, text = name.partition(":")
    found = entry(head)
    if not colon:
        return found(**arguments)
    if found.text is None:
        raise GraphError(f"expected no text behind the name {found.name!r}, got {text!r}")
    return found(**{found.text: text, **arguments})
