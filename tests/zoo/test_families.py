"""What distinguishes the networks of a family, and the laws that theory sees."""

import math

import pytest

from depthscale import zoo
from depthscale.errors import GraphError
from depthscale.graph import Graph, all_parameters, laws, ops


def ops_of(graph: Graph, kind: type) -> list[ops.Op]:
    return [n.op for n in graph.nodes if isinstance(n.op, kind)]


# --- ResNet ------------------------------------------------------------------------------------------------------


def test_stages_of_resnet_halve_the_image() -> None:
    # table 1 of the paper
    shapes = zoo.resnet(50).shapes()
    ends = ["stem.pool1", *(f"stage{i}.block{n}.act3" for i, n in enumerate((3, 4, 6, 3), 1))]
    assert [shapes[e][1:] for e in ends] == [
        (64, 56, 56), (256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7)
    ]  # fmt: skip


def test_resnext_and_wide_resnet_change_only_the_middle_of_a_bottleneck() -> None:
    plain = zoo.resnet(50)
    for changed in (zoo.resnet(50, groups=32, width_per_group=4), zoo.resnet(50, width_per_group=128)):
        assert [n.name for n in changed.nodes] == [n.name for n in plain.nodes]
        differ = {n.name.split(".")[-1] for n, m in zip(plain.nodes, changed.nodes, strict=True) if n.op != m.op}
        assert differ == {"conv1", "conv2"}


def test_squeeze_and_excitation_is_an_addition() -> None:
    plain, se = zoo.resnet(50), zoo.resnet(50, squeeze=16)
    added = {n.name for n in se.nodes} - {n.name for n in plain.nodes}
    assert {name.split(".")[2] for name in added} == {"squeeze"}
    assert se.shapes()["stage4.block3.squeeze.conv1"] == (1, 128, 1, 1)


def test_stochastic_depth_falls_linearly_to_the_last_block() -> None:
    graph = zoo.get("resnet110_stochastic")
    drops = [op.p for op in ops_of(graph, ops.DropPath)]
    assert drops == pytest.approx([0.5 * i / 54 for i in range(1, 55)])
    assert not ops_of(zoo.get("resnet110"), ops.DropPath)


@pytest.mark.parametrize(("preactivation", "norm"), [(False, "batch"), (True, "batch"), (False, "none")])
def test_zero_gain_makes_every_branch_zero(preactivation: bool, norm: str) -> None:
    graph = zoo.resnet(18, zero_gain=True, preactivation=preactivation, norm=norm)
    zeros = [n.name for n in graph.nodes if getattr(n.op, "weight", None) == laws.ZERO]
    assert len(zeros) == 8
    assert all("shortcut" not in name for name in zeros)
    kinds = {type(graph[name].op) for name in zeros}
    assert kinds == ({ops.BatchNorm} if norm == "batch" and not preactivation else {ops.Conv})


def test_preactivation_leaves_the_path_of_the_sum_clear() -> None:
    graph = zoo.resnet(18, preactivation=True)
    for node in graph.nodes:
        if isinstance(node.op, ops.Add):
            users = {type(graph[u].op) for u in graph.consumers[node.name]}
            assert users <= {ops.Add, ops.BatchNorm}
    assert not any(isinstance(n.op, ops.BatchNorm) and "stem" in n.name for n in graph.nodes)


def test_option_a_has_no_parameters_in_its_shortcuts() -> None:
    a, b = zoo.resnet_cifar(20), zoo.resnet_cifar(20, shortcut="project")
    assert not [n for n in all_parameters(a) if "shortcut" in n]
    # two projections: 16·32 and 32·64 weights, each with a norm
    assert b.cost().parameters - a.cost().parameters == 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64


def test_senet_has_a_deep_stem_and_wide_shortcuts() -> None:
    graph = zoo.senet154()
    assert [n.op.kernel for n in graph.nodes if n.name.startswith("stem.conv")] == [(3, 3)] * 3
    kernels = [n.op.kernel[0] for n in graph.nodes if n.name.endswith("shortcut.conv1")]
    assert kernels == [1, 3, 3, 3]


# --- laws --------------------------------------------------------------------------------------------------------


def variance(graph: Graph, name: str) -> float:
    moments = all_parameters(graph)[name].moments
    return moments.mean_square - moments.mean**2


def test_laws_are_those_of_the_papers() -> None:
    resnet = zoo.resnet(50)
    assert variance(resnet, "stage1.block1.conv2.weight") == pytest.approx(2 / (9 * 64))  # He, fan out
    assert variance(resnet, "stage2.block1.conv2.weight") == pytest.approx(2 / (9 * 128))
    assert variance(zoo.densenet(), "stage1.layer1.conv1.weight") == pytest.approx(2 / 64)  # He, fan in
    assert variance(zoo.alexnet(), "features.conv3.weight") == pytest.approx(1e-4)
    assert [all_parameters(zoo.alexnet())[f"features.conv{i}.bias"].moments.mean for i in range(1, 6)] == [
        0,
        1,
        0,
        1,
        1,
    ]
    assert variance(zoo.vit("tiny"), "block1.attention.linear1.weight") == pytest.approx(4e-4)
    assert variance(zoo.inception_v3(), "stage1.module1.branch1.conv1.weight") == pytest.approx(1e-2)
    assert variance(zoo.inception_v3(aux=True), "aux.linear1.weight") == pytest.approx(1e-6)
    v1 = zoo.inception_v1(variant="paper")
    assert variance(v1, "stem.conv1.weight") == pytest.approx(2 / (49 * 3 + 49 * 64))  # Glorot
    assert all_parameters(v1)["stem.conv1.bias"].moments.mean == 0.2
    # TensorFlow widens the cut normal so that its variance is 1/fan_in
    assert variance(zoo.nasbench101(), "stem.conv1.weight") == pytest.approx(1 / 27, rel=1e-6)
    lenet = zoo.lenet5()
    assert variance(lenet, "c5.linear1.weight") == pytest.approx(1 / 400)


# --- DenseNet, DPN, Inception ------------------------------------------------------------------------------------


def test_densenet_grows_by_its_growth() -> None:
    graph = zoo.densenet(121)
    shapes = graph.shapes()
    assert [shapes[f"stage1.layer{i}.concat1"][1] for i in range(1, 7)] == [64 + 32 * i for i in range(1, 7)]
    assert [shapes[f"transition{i}.conv1"][1] for i in (1, 2, 3)] == [128, 256, 512]
    plain = zoo.densenet_cifar(40, bottleneck=False)
    assert not [n for n in plain.nodes if "layer" in n.name and getattr(n.op, "kernel", None) == (1, 1)]


def test_dpn_carries_two_paths() -> None:
    shapes = zoo.dpn(92).shapes()
    # the dense path of stage 2 starts at 3·16 channels and gains 16 a block
    assert [shapes[f"stage1.block{i}.concat2"][1] for i in (1, 2, 3)] == [256 + 16 * (2 + i) for i in (1, 2, 3)]


def test_inception_modules_have_the_channels_of_the_table() -> None:
    v1 = zoo.inception_v1().shapes()
    ends = [shape[1] for name, shape in v1.items() if name.endswith("concat1")]
    assert ends == [256, 480, 512, 512, 512, 528, 832, 832, 1024]
    v2 = [s[1:] for n, s in zoo.inception_v2().shapes().items() if n.endswith("concat1")]
    assert v2 == [
        (256, 28, 28), (320, 28, 28), (576, 14, 14), (576, 14, 14), (576, 14, 14), (576, 14, 14), (576, 14, 14),
        (1024, 7, 7), (1024, 7, 7), (1024, 7, 7),
    ]  # fmt: skip
    v4 = [s[1:] for n, s in zoo.inception_v4().shapes().items() if n.endswith("concat1") and n.count(".") == 2]
    assert [v4[0], v4[4], v4[12], v4[-1]] == [(384, 35, 35), (1024, 17, 17), (1536, 8, 8), (1536, 8, 8)]


def test_auxiliary_heads_are_outputs() -> None:
    graph = zoo.inception_v1(10, aux=True)
    assert [graph.shapes(2)[o] for o in graph.outputs] == [(2, 10)] * 3
    assert zoo.inception_v3(10, aux=True).outputs == ("head.linear1", "aux.linear1")


def test_inception_resnet_scales_its_branches() -> None:
    scales = [op.given["scale"] for op in ops_of(zoo.inception_resnet_v2(), ops.Activation) if op.function == "affine"]
    assert scales == [0.17] * 10 + [0.1] * 20 + [0.2] * 9


# --- searched cells ----------------------------------------------------------------------------------------------


def test_nasnet_ends_in_its_filters() -> None:
    for graph, filters in ((zoo.nasnet(4, 1056, stem_width=32, image_size=224), 1056), (zoo.pnasnet(3, 960), 960)):
        assert graph.shapes()["head.pool1"] == (1, filters)


def test_nasnet_pads_as_tensorflow_does() -> None:
    # SAME: ⌈n/s⌉ at every stride, whatever the parity of the image
    for size in (79, 80, 81, 82):
        shapes = zoo.nasnet(1, 768, image_size=size, small=False).shapes()
        n = (size - 3) // 2 + 1
        ends = [name for name in shapes if name.endswith("concat1") and "sum" not in name and "inputs" not in name]
        for name, halvings in zip(ends, (1, 2, 2, 3, 3, 4, 4), strict=True):
            assert shapes[name][2] == math.ceil(n / 2**halvings), name


# --- sequences ---------------------------------------------------------------------------------------------------


def test_metaqnn_reads_the_papers_notation() -> None:
    graph = zoo.metaqnn("[C(64,5,2), P(2,2), D(0.5), FC(32), SM(10)]", image_size=32)
    shapes = graph.shapes()
    assert [shapes[n.name][1:] for n in graph.nodes if not isinstance(n.op, ops.Activation)] == [
        (3, 32, 32), (64, 16, 16), (64, 8, 8), (64, 8, 8), (4096,), (32,), (10,)
    ]  # fmt: skip
    # 11.18 million without the classifier, as the paper's table of its best networks has it
    best = zoo.metaqnn()
    head = sum(s.count for n, s in all_parameters(best).items() if n.startswith("head"))
    assert (best.cost().parameters - head) / 1e6 == pytest.approx(11.18, abs=0.005)
    assert zoo.metaqnn("C(8,3,1) GAP(5)").cost().parameters == 27 * 8 + 8 + 8 * 5 + 5
    assert zoo.metaqnn("C(8,3,1) GAP(8) SM(5)").shapes()["head.linear1"] == (1, 5)
    assert zoo.metaqnn("C(8,3,1) SM(5)", 3).shapes()["head.linear1"] == (1, 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "that ends in SM"),
        ("C(64,3,1)", "that ends in SM"),
        ("SM(10) C(64,3,1)", "that ends in SM"),
        ("C(64,3) SM(10)", r"expected C with 3 numbers, got C\(64,3\)"),
        ("C(a,3,1) SM(10)", "expected C with 3 numbers"),
        ("X(3) SM(10)", "expected a layer of C, P, FC, D, GAP, SM, got 'X'"),
        ("C(64,3,1) ?? SM(10)", r"expected layers such as .*, got '\?\? SM"),
        ("FC(10) C(64,3,1) SM(10)", "no convolution or pool behind a hidden layer"),
        ("C(0,3,1) SM(10)", "out_channels"),
    ],
)
def test_sequences_that_are_none(text: str, said: str) -> None:
    with pytest.raises(GraphError, match=said):
        zoo.metaqnn(text)
