"""Parameters, multiply-adds and depth against what papers, torchvision, timm and the benchmarks publish."""

from importlib import import_module

import pytest

from depthscale import zoo
from depthscale.graph import ops

PARAMETERS = {
    "lenet5": 61_706,
    "alexnet": 61_100_840,
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnetv2_50": 25_549_352,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336,
    "resnext101_64x4d": 83_455_272,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
    "seresnet50": 28_088_024,
    "seresnext50_32x4d": 27_559_896,
    "senet154": 115_088_984,
    "densenet121": 7_978_856,
    "densenet161": 28_681_000,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "dpn68": 12_611_602,
    "dpn92": 37_668_392,
    "dpn98": 61_570_728,
    "dpn131": 79_254_504,
    "dpn107": 86_917_800,
    "inception_v1": 6_624_904,
    "inception_v1_paper": 6_998_552,  # the Caffe release
    "inception_v3": 23_834_568,
    "inception_v4": 42_679_816,
    "inception_resnet_v2": 55_843_464,
    "nasnetalarge": 88_753_150,
    "nasnetamobile": 5_289_978,
    "pnasnet5large": 86_057_668,
    "vit_b_16": 86_567_656,
    "vit_b_32": 88_224_232,
    "vit_l_16": 304_326_632,
    "vit_l_32": 306_535_400,
    "vit_h_14": 632_045_800,
    "vit_ti_16": 5_717_416,
    "mixer_b16": 59_880_472,
    # CIFAR networks, ten classes
    "resnet20": 269_722,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "wrn28_10": 36_479_194,
    "densenet_bc100_k12": 769_162,
    # the benchmarks
    "nasbench101": 2_694_282,
}

# torchvision's model pages, for one image of 224 (299 for Inception v3); vit in the same convention
GIGA_MULTIPLY_ADDS = {
    "alexnet": 0.714,
    "vgg11": 7.609,
    "vgg16": 15.470,
    "vgg19": 19.632,
    "resnet18": 1.814,
    "resnet34": 3.664,
    "resnet50": 4.089,
    "resnet101": 7.801,
    "resnet152": 11.514,
    "resnext50_32x4d": 4.230,
    "resnext101_32x8d": 16.414,
    "resnext101_64x4d": 15.460,
    "wide_resnet50_2": 11.398,
    "wide_resnet101_2": 22.753,
    "densenet121": 2.834,
    "densenet161": 7.728,
    "densenet169": 3.360,
    "densenet201": 4.291,
    "inception_v1": 1.498,
    "inception_v3": 5.713,
    "vit_b_16": 17.564,
    "vit_b_32": 4.409,
    "vit_l_16": 61.555,
    "vit_h_14": 167.295,
}

# millions of parameters (and multiply-adds) as the papers print them, with what their last digit leaves open
IN_PAPERS = {
    "densenet40_k12": (1.0, 0.05, None, None),
    "nasneta_cifar": (3.3, 0.05, None, None),
    "pnasnet5_cifar": (3.2, 0.05, None, None),
    "randwire_ws": (5.6, 0.15, 583, 13),  # mean over seeds ± 0.1 and ± 6.2: two deviations
    "randwire_ws_regular": (31.9, 1.32, 4000, 180),
    "mixer_s32": (19.0, 0.5, None, None),
    "mixer_l16": (208.0, 0.5, None, None),
    "resnet32": (0.46, 0.005, None, None),
    "resnet44": (0.66, 0.005, None, None),
    "wrn40_4": (8.9, 0.05, None, None),
    "wrn16_8": (11.0, 0.05, None, None),
}


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_parameters(name: str, count: int) -> None:
    assert zoo.get(name).cost().parameters == count


@pytest.mark.parametrize(("name", "giga"), GIGA_MULTIPLY_ADDS.items())
def test_multiply_adds(name: str, giga: float) -> None:
    assert zoo.get(name).cost().multiply_adds / 1e9 == pytest.approx(giga, abs=5.1e-4)


@pytest.mark.parametrize("name", IN_PAPERS)
def test_what_papers_print(name: str) -> None:
    parameters, open_by, multiply_adds, also_by = IN_PAPERS[name]
    cost = zoo.get(name).cost()
    assert cost.parameters / 1e6 == pytest.approx(parameters, abs=open_by)
    if multiply_adds is not None:
        assert cost.multiply_adds / 1e6 == pytest.approx(multiply_adds, abs=also_by)


@pytest.mark.parametrize(("name", "count"), [("inception_v1", 13_004_888), ("inception_v3", 27_161_264)])
def test_parameters_with_auxiliary_heads(name: str, count: int) -> None:
    assert zoo.get(name, aux=True).cost().parameters == count


def test_inception_v2_in_caffes_widths_has_the_count_of_its_release(monkeypatch: pytest.MonkeyPatch) -> None:
    # the release pools to 128 channels in 4c and 4d, where the paper's table has 96, and keeps biases before norms
    v1 = import_module("depthscale.zoo.inception_v1")  # the function of this name hides the module
    rows = [list(map(list, stage)) for stage in v1.V2]
    for module in (2, 3):
        assert rows[1][module][6] == 96
        rows[1][module][6] = 128
    monkeypatch.setattr(v1, "V2", rows)
    graph = v1.inception_v2()
    biases = sum(n.op.out_channels for n in graph.nodes if isinstance(n.op, ops.Conv))
    assert graph.cost().parameters + biases == 11_295_240


def test_depth_is_the_number_in_the_name() -> None:
    named = {f"resnet{d}": d for d in (18, 34, 50, 101, 152, 20, 32, 44, 56, 110)}
    named |= {f"vgg{d}": d for d in (11, 13, 16, 19)} | {f"densenet{d}": d for d in (121, 161, 169, 201)}
    named |= {f"dpn{d}": d for d in (68, 92, 98, 131, 107)}
    named |= {"alexnet": 8, "lenet5": 5, "inception_v1": 22, "densenet40_k12": 40, "densenet_bc100_k12": 100}
    assert {name: zoo.get(name).cost().depth for name in named} == named
