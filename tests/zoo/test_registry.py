"""Names, arguments and errors of the table of networks; every network at ImageNet's and at a small size."""

import difflib

import pytest

from depthscale import zoo
from depthscale.errors import DepthscaleError, GraphError
from depthscale.graph import Graph
from depthscale.zoo.registry import ALIASES, ENTRIES


@pytest.mark.parametrize("name", zoo.names())
def test_every_network_at_a_small_size(name: str) -> None:
    size = 28 if name.endswith("h14") or name.endswith("h_14") else 32
    graph = zoo.get(name, num_classes=7, in_channels=1, image_size=size)
    assert [graph.shapes(3)[o] for o in graph.outputs] == [(3, 7)]
    assert graph.shapes()[graph.inputs[0]] == (1, 1, size, size)
    assert Graph.from_json(graph.to_json()) == graph


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "densenet121", "inception_v1", "alexnet", "vit_ti_16", "dpn68"])
def test_images_need_not_be_square(name: str) -> None:
    graph = zoo.get(name, image_size=(64, 96))
    assert graph.shapes()[graph.inputs[0]] == (1, 3, 64, 96)
    assert graph.shapes()[graph.outputs[0]] == (1, 1000)


def test_small_can_be_said() -> None:
    big, small = (zoo.get("resnet18", image_size=64, small=s) for s in (False, True))
    assert big.shapes()["stage1.block1.conv1"][2:] == (16, 16)
    assert small.shapes()["stage1.block1.conv1"][2:] == (64, 64)
    assert zoo.get("resnet18", image_size=64) == small


def test_names_are_different_networks() -> None:
    def key(name: str) -> str:
        return zoo.get(name).key

    keys: dict[str, str] = {}
    for name in zoo.names():
        other = keys.setdefault(key(name), name)
        assert other == name, f"{name} is {other}"


def test_spelling_does_not_matter() -> None:
    expected = zoo.get("resnext50_32x4d")
    assert all(zoo.get(n) == expected for n in ("ResNeXt-50-32x4d", "resnext50.32X4D", "resnext 50 32x4d"))
    plain = ["".join(c for c in n.lower() if c.isalnum()) for n in (*ENTRIES, *ALIASES)]
    assert len(set(plain)) == len(plain)


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_aliases(alias: str, name: str) -> None:
    assert zoo.entry(alias) is zoo.entry(name)


def test_entries_name_their_paper() -> None:
    for name in zoo.names():
        entry = zoo.entry(name)
        assert entry.name == name
        assert entry.paper
        assert 1986 <= entry.year <= 2021
    assert {zoo.entry(n).family for n in ("resnet18", "resnet20", "senet154", "wrn28_10")} == {"resnet"}


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        ENTRIES["mine"] = ENTRIES["resnet50"]  # type: ignore[index]
    with pytest.raises(TypeError):
        ENTRIES["resnet50"].arguments["depth"] = 18  # type: ignore[index]


@pytest.mark.parametrize(
    ("given", "nearest"), [("resnt50", "resnet50"), ("vgg-161", "vgg16"), ("googlnet", "inception_v1")]
)
def test_unknown_name_suggests_the_nearest(given: str, nearest: str) -> None:
    with pytest.raises(GraphError, match=rf"got '{given}'; did you mean .*{nearest}"):
        zoo.get(given)


def test_a_name_like_no_other() -> None:
    assert not difflib.get_close_matches("zzz", zoo.names())
    with pytest.raises(GraphError, match=r"see zoo\.names"):
        zoo.get("zzz")


def test_unknown_argument_suggests_the_nearest() -> None:
    with pytest.raises(GraphError, match="got 'num_class'; did you mean 'num_classes'"):
        zoo.get("resnet50", num_class=3)


def test_text_behind_a_colon() -> None:
    assert zoo.get("nasbench201:123403").key == zoo.get("nasbench201", cell="123403").key
    assert zoo.get("metaqnn:C(8,3,1) SM(4)").shapes()["head.linear1"] == (1, 4)
    with pytest.raises(GraphError, match="expected no text behind the name 'resnet50', got '18'"):
        zoo.get("resnet50:18")


# smallest image that builds; one pixel less must not
TOO_SMALL = {
    "lenet5": ("c3", 6, {}),
    "alexnet": ("features.pool", 9, {}),
    "vgg16": ("stage5.pool1", 16, {}),
    "densenet121": ("transition3.pool1", 6, {}),
    "inception_v3": ("stage3.module1", 70, {"small": False}),
    "inception_v4": ("stage3.module1", 70, {"small": False}),
    "metaqnn": ("layer8.pool1", 5, {}),
    "nasbench201": ("reduction1", 1, {}),
}


@pytest.mark.parametrize("name", TOO_SMALL)
def test_an_image_too_small_names_the_layer_and_the_size_that_does(name: str) -> None:
    layer, size, arguments = TOO_SMALL[name]
    with pytest.raises(zoo.ImageTooSmallError, match=rf"node '{layer}") as caught:
        zoo.get(name, image_size=size, **arguments)
    least = int(str(caught.value).split("at least ")[-1].split()[0])
    zoo.get(name, image_size=least, **arguments).shapes()
    with pytest.raises(zoo.ImageTooSmallError):
        zoo.get(name, image_size=least - 1, **arguments)


def test_a_network_made_of_another_says_it_once() -> None:
    with pytest.raises(zoo.ImageTooSmallError) as caught:
        zoo.densenet_cifar(image_size=2)
    assert str(caught.value).count("needs images") == 1


@pytest.mark.parametrize("size", [0, -3, 2.5, True, (32,), (32, 0), "32"])
def test_sizes_that_are_none(size: object) -> None:
    with pytest.raises(GraphError, match="expected image_size to be"):
        zoo.resnet(18, image_size=size)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["vit_b_16", "mixer_b16"])
def test_patches_that_do_not_fill_the_image(name: str) -> None:
    with pytest.raises(GraphError, match="expected an image of a multiple of 16 pixels, such as 208, got 210 × 210"):
        zoo.get(name, image_size=210)


BAD = {
    "resnet": {"depth": 51},
    "vgg": {"depth": 12},
    "densenet": {"depth": 100},
    "dpn": {"depth": 1},
    "resnet_cifar": {"depth": 21},
    "wide_resnet": {"depth": 27},
    "densenet_cifar": {"depth": 41},
    "vit": {"size": "giant"},
    "mixer": {"size": "giant"},
    "lenet5": {"pool": "median"},
    "inception_v1": {"variant": "keras"},
    "nasnet": {"filters": 1000},
    "randomly_wired": {"kind": "sw"},
}


@pytest.mark.parametrize("function", BAD)
def test_bad_arguments_are_answered_in_one_sentence(function: str) -> None:
    with pytest.raises(DepthscaleError, match=r"^expected .*, got [^.]*$"):
        getattr(zoo, function)(**BAD[function])


@pytest.mark.parametrize("arguments", [{"num_classes": 0}, {"in_channels": 0}, {"norm": "bach"}, {"act": "rlu"}])
def test_bad_common_arguments(arguments: dict[str, object]) -> None:
    with pytest.raises(DepthscaleError, match=r"expected|unknown"):
        zoo.get("resnet18", **arguments)


@pytest.mark.parametrize("name", ["resnet50", "vit_s_16", "mixer_s16", "lenet5", "alexnet", "nasbench201"])
@pytest.mark.parametrize("wrong", [{"num_classes": 0}, {"num_classes": 2.5}, {"in_channels": -1}])
def test_counts_are_refused_by_the_name_of_their_argument(name: str, wrong: dict[str, object]) -> None:
    (argument, value), *_ = wrong.items()
    with pytest.raises(GraphError, match=f"expected {argument} to be a whole number of at least 1, got {value}"):
        zoo.get(name, **wrong)


def test_a_cell_that_is_no_text_is_refused() -> None:
    with pytest.raises(GraphError, match="expected a cell as text"):
        zoo.nasbench201(42)  # type: ignore[arg-type]


@pytest.mark.parametrize("arguments", [{"block": "basc"}, {"shortcut": "none"}])
def test_bad_words_of_resnet(arguments: dict[str, str]) -> None:
    with pytest.raises(GraphError, match="expected (block|shortcut) to be"):
        zoo.resnet(18, **arguments)  # type: ignore[arg-type]
