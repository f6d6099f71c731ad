"""NAS-Bench-201: published parameter counts and number of cells; simplified cells compute the same function."""

import itertools
import random

import numpy as np
import pytest
import torch

from depthscale.build import build
from depthscale.errors import GraphError
from depthscale.graph import Builder, Graph, ops
from depthscale.zoo.nasbench201 import (
    BEST,
    EDGES,
    OPS,
    add_cell,
    add_simplified,
    nasbench201,
    parse,
    published_form,
    simplified,
    write,
)

ALL = ["".join(digits) for digits in itertools.product("01234", repeat=6)]


@pytest.mark.parametrize("code", [*random.Random(1).sample(ALL, 40), "000000", "222222", "333333"])
def test_parameters(code: str) -> None:
    expected = 73_306 + 28_000 * code.count("2") + 243_040 * code.count("3")
    assert nasbench201(code).cost().parameters == expected


def test_published_number_of_unique_cells() -> None:
    assert len({published_form(code) for code in ALL}) == 6_466


def test_strings_and_digits_say_the_same() -> None:
    for code in random.Random(2).sample(ALL, 50):
        assert parse(write(parse(code))) == parse(code)
    assert write(parse(BEST)) == BEST
    assert parse("421211") == parse(
        "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    )


def cell_of(add, code: str) -> Graph:
    net = Builder()
    return net.graph(add(net.input(3, 5, 5), parse(code)))


@pytest.mark.parametrize("code", [*random.Random(3).sample(ALL, 40), "000000", "103130", "044444"])
def test_simplified_cells_compute_the_same(code: str) -> None:
    full, short = cell_of(add_cell, code), simplified(code, 3)
    module, other = (build(g, seed=0, dtype=torch.float64) for g in (full, cell_of(add_simplified, code)))
    state = module.state_dict()
    other.load_state_dict({k: state[k] for k in other.state_dict()})
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(other(x), module(x), rtol=1e-12, atol=1e-12)
    assert len(short) <= len(full)


def by_hand(code: str, x: np.ndarray) -> np.ndarray:
    """A cell of zeros, skips and pools as numbers; a shift and a scale stand for the pool."""
    apply = {"none": lambda y: 0 * y, "skip_connect": lambda y: y, "avg_pool_3x3": lambda y: np.roll(y, 1) + 2 * y}
    values = [x]
    for node in (1, 2, 3):
        terms = [apply[OPS[int(d)]](values[s]) for d, (i, s) in zip(code, EDGES, strict=True) if i == node]
        values.append(np.sum(terms, axis=0))
    return values[3]


def test_equal_keys_mean_equal_functions() -> None:
    x = np.random.default_rng(0).normal(size=7)
    found: dict[str, set[tuple[float, ...]]] = {}
    for code in map("".join, itertools.product("014", repeat=6)):
        found.setdefault(simplified(code).key, set()).add(tuple(np.round(by_hand(code, x), 9) + 0.0))
    assert all(len(values) == 1 for values in found.values())
    assert 50 < len(found) < 729  # keys do merge, and not everything


def test_cells_that_are_one_network() -> None:
    def key(*operations: str) -> str:
        short = {"0": "none", "s": "skip_connect", "1": "nor_conv_1x1", "3": "nor_conv_3x3", "p": "avg_pool_3x3"}
        return simplified("".join(str(OPS.index(short[o])) for o in operations)).key

    # edges: 1←0, 2←0, 2←1, 3←0, 3←1, 3←2
    assert key("3", "0", "0", "0", "s", "0") == key("0", "3", "0", "0", "0", "s") == key("0", "0", "0", "3", "0", "0")
    assert key("3", "0", "1", "0", "0", "s") == key("s", "0", "3", "0", "0", "1")
    assert key("0", "0", "3", "0", "1", "1") == key("0", "0", "0", "0", "0", "0")  # nothing reaches the output
    # one convolution used twice is not two convolutions
    assert key("3", "0", "s", "0", "s", "s") != key("3", "3", "0", "0", "s", "s")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a cell such as"),
        ("|none~0|", "expected a cell such as"),
        ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|+|none~0|", "expected a cell such as"),
        ("123455", "expected digits from 0 to 4"),
        ("12345", "expected a cell such as"),
        ("|conv_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|", "got 'conv_3x3'; did you mean 'nor_conv_3x3'"),
        ("|none~0|+|none~0|none~0|+|none~0|none~1|none~2|", "edge 'none~0' of node 2 to come from node 1, got '0'"),
        ("|none~1|+|none~0|none~1|+|none~0|none~1|none~2|", "to come from node 0, got '1'"),
    ],
)
def test_impossible_cells(text: str, said: str) -> None:
    with pytest.raises(GraphError, match=said):
        nasbench201(text)


def test_network_has_seventeen_cells() -> None:
    graph = nasbench201("333333")
    scopes = {".".join(n.name.split(".")[:2]) for n in graph.nodes if n.name.startswith("stage")}
    assert len(scopes) == 15
    assert {n.name.split(".")[0] for n in graph.nodes if n.name.startswith("reduction")} == {"reduction1", "reduction2"}
    assert [graph.shapes()[f"stage{i}.cell1.edge01.conv1"][1:] for i in (1, 2, 3)] == [
        (16, 32, 32), (32, 16, 16), (64, 8, 8)
    ]  # fmt: skip
    assert sum(isinstance(n.op, ops.Conv) for n in graph.nodes) == 15 * 6 + 2 * 3 + 1
