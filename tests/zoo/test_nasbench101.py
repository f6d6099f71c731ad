"""NAS-Bench-101: published parameter counts, the published number of cells, and cells that are none."""

import random

import pytest

from depthscale.errors import GraphError
from depthscale.zoo.nasbench101 import MOST_EDGES, OPS, Cell, channels, nasbench101, parse
from depthscale.zoo.nasbench101_forms import canonical, cell_graph, count_unique, matrices

UNIQUE = {2: 1, 3: 7, 4: 91, 5: 2_532, 6: 64_542, 7: 423_624}  # up to so many vertices (Ying et al. 2019)


def chain(*operations: str, skip: bool = False) -> tuple[list[list[int]], list[str]]:
    size = len(operations) + 2
    matrix = [[int(j == i + 1) for j in range(size)] for i in range(size)]
    matrix[0][-1] = int(skip or size == 2)
    return matrix, list(operations)


@pytest.mark.parametrize(
    ("cell", "count"),
    [
        (chain("conv3x3"), 10_177_674),
        (chain(), 882_570),
        (chain("conv3x3", "conv3x3", skip=True), 20_346_506),
    ],
)
def test_parameters(cell: tuple[list[list[int]], list[str]], count: int) -> None:
    assert nasbench101(*cell).cost().parameters == count


def test_all_cells_are_counted() -> None:
    total = 0
    for vertices, published in UNIQUE.items():
        total += count_unique(vertices)
        assert total == published


def random_cell(draw: random.Random) -> Cell:
    while True:
        size = draw.randint(3, 7)
        matrix = [[int(j > i and draw.random() < 0.45) for j in range(size)] for i in range(size)]
        try:
            # few operations, so that cells which differ in wiring alone meet often
            return parse(matrix, [draw.choice(OPS[:2]) for _ in range(size - 2)])
        except GraphError:
            continue


def renumbered(cell: Cell, draw: random.Random) -> Cell:
    """The cell with its inner vertices in another order that its edges allow."""
    size = len(cell.matrix)
    order, free = [0], set(range(1, size - 1))
    while free:
        ready = [v for v in free if all(s not in free for s in cell.sources(v))]
        order.append(draw.choice(ready))
        free.remove(order[-1])
    order.append(size - 1)
    matrix = tuple(tuple(cell.matrix[i][j] for j in order) for i in order)
    return Cell(matrix, tuple(cell.ops[v - 1] for v in order[1:-1]))


def test_forms_agree_with_the_keys_of_graphs() -> None:
    draw = random.Random(7)
    cells = [random_cell(draw) for _ in range(150)]
    cells += [renumbered(c, draw) for c in cells]
    forms: dict[object, set[str]] = {}
    keys: dict[str, set[object]] = {}
    for cell in cells:
        form, key = canonical(cell), cell_graph(cell).key
        forms.setdefault(form, set()).add(key)
        keys.setdefault(key, set()).add(form)
    assert all(len(k) == 1 for k in forms.values())
    assert all(len(f) == 1 for f in keys.values())
    assert 50 < len(keys) <= 150


def test_counting_small_cells_by_graph_keys() -> None:
    # the independent count: every labelled cell of up to 4 vertices, as graphs
    keys = set()
    for vertices in (2, 3, 4):
        for part in matrices(vertices):
            for there in part:
                upper = iter(there.tolist())
                matrix = [[int(next(upper)) if j > i else 0 for j in range(vertices)] for i in range(vertices)]
                for code in range(3 ** (vertices - 2)):
                    names = [OPS[code // 3**k % 3] for k in range(vertices - 2)]
                    keys.add(cell_graph(parse(matrix, names)).key)
    assert len(keys) == UNIQUE[4]


def test_channels_share_what_the_output_has() -> None:
    # three vertices feed an output of 128: 43 + 43 + 42; one that feeds others takes the most they have
    matrix = [[0, 1, 1, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [0] * 5]
    assert channels(parse(matrix, ["conv3x3"] * 3), 64, 128) == [64, 43, 43, 42, 128]
    deep = [[0, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [0] * 5]
    assert channels(parse(deep, ["conv1x1"] * 3), 64, 5) == [64, 3, 3, 2, 5]
    graph = nasbench101(deep, ["conv1x1"] * 3, width=5)
    assert graph.shapes()["stack3.cell3.concat1"][1] == 20


def test_vertices_off_every_path_are_dropped() -> None:
    matrix = [[0, 1, 1, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0] * 5]
    cell = parse(matrix, ["conv1x1", "conv3x3", "maxpool3x3"])  # 2 leads nowhere, 3 comes from nowhere
    assert cell == parse(*chain("conv1x1"))


def test_long_names_are_taken() -> None:
    matrix, _ = chain("conv3x3", "maxpool3x3")
    assert parse(matrix, ["input", "conv3x3-bn-relu", "maxpool3x3", "output"]).ops == ("conv3x3", "maxpool3x3")


FULL = [[int(j > i) for j in range(6)] for i in range(6)]
LONG = chain(*["conv1x1"] * 6)


@pytest.mark.parametrize(
    ("matrix", "operations", "said"),
    [
        ([[0, 1, 0], [0, 0, 0], [0, 0, 0]], ["conv3x3"], r"a path from vertex 0 to vertex 2.*\(disconnected\)"),
        ([[0, 1, 0], [0, 0, 1], [0, 1, 0]], ["conv3x3"], "got 2 → 1, which closes a cycle"),
        ([[0, 1, 0], [0, 1, 1], [0, 0, 0]], ["conv3x3"], "got 1 → 1, which closes a cycle"),
        ([[0, 0, 1], [1, 0, 1], [0, 0, 0]], ["conv3x3"], "got 1 → 0, which runs backwards"),
        (FULL, ["conv3x3"] * 4, f"at most {MOST_EDGES} edges in a cell of NAS-Bench-101, got 15"),
        (*LONG, "at most 7 vertices in a cell of NAS-Bench-101, got 8"),
        ([[0, 1, 0], [0, 0, 1], [0, 0, 0]], ["conv3"], "got 'conv3'; did you mean 'conv3x3'"),
        ([[0, 1, 0], [0, 0, 1], [0, 0, 0]], [], "expected 1 operations for a matrix of 3 vertices"),
        ([[0, 1], [0]], [], "expected a square matrix"),
        ([[0, 2], [0, 0]], [], "expected a square matrix"),
        (["ab", "cd"], [], "expected a matrix as rows of 0 and 1"),
        (None, [], "expected a matrix as rows of 0 and 1"),
    ],
)
def test_impossible_cells(matrix: list[list[int]], operations: list[str], said: str) -> None:
    with pytest.raises(GraphError, match=said):
        nasbench101(matrix, operations)


def test_forms_exist_for_sizes_of_the_benchmark_only() -> None:
    with pytest.raises(GraphError, match="expected 2 to 7 vertices, got 8"):
        count_unique(8)
