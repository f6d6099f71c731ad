"""Drawings are checked as geometry: nothing overlaps, nothing overflows, every wire of the graph is there."""

import random
import re
import xml.etree.ElementTree as ET
from itertools import combinations

import pytest
from hypothesis import given, settings

from depthscale import zoo
from depthscale.graph import Builder, Graph, blocks, ops
from depthscale.graph.draw.boxes import FONT, LABEL_HEIGHT, SMALL, UNIT_HEIGHT, Wire
from depthscale.graph.draw.svg import Drawn, draw
from depthscale.graph.draw.tree import fold_repeats, repeats, span_words
from depthscale.graph.draw.words import count_words, describe, text_width
from tests.strategies import graphs

SVG = "{http://www.w3.org/2000/svg}"
Rect = tuple[float, float, float, float]


def cell_network(seed: int, nodes: int = 7, cells: int = 1, scoped: bool = True) -> Graph:
    """Cells whose nodes sum random earlier ones and whose loose ends are concatenated."""
    rng = random.Random(seed)
    net = Builder()
    x = net.input(3, 16, 16)
    with net.scope("stem"):
        x = blocks.conv_norm_act(x, 8)
    for _ in range(cells):
        with net.scope("cell#"):
            wires, read = [x], set()
            for i in range(nodes):
                chosen = rng.sample(wires, min(len(wires), rng.choice([1, 1, 2, 3])))
                read |= {w.name for w in chosen}
                with net.scope(f"node{i}" if scoped else f"n{i % 2}"):
                    y = chosen[0] if len(chosen) == 1 else chosen[0].then(ops.Add(), *chosen[1:], name=f"sum{i}")
                    y = y.then(rng.choice([ops.MaxPool(3, 1, 1), ops.Conv(8, 3, padding=1)]), name=f"op{i}")
                wires.append(y.then(ops.Activation("relu"), name=f"act{i}"))
            loose = [w for w in wires if w.name not in read]
            x = blocks.conv(loose[0].then(ops.Concat(1), *loose[1:]), 8, 1)
    with net.scope("head"):
        return net.graph(blocks.classifier(x, 10))


def looping_scopes() -> Graph:
    """Two scopes that data enter in turns, as when a module is called twice."""
    net = Builder()
    x = net.input(8)
    for i in range(3):
        x = net.add(ops.Linear(8), x, name=f"a.l{i}")
        x = net.add(ops.Linear(8), x, name=f"b.l{i}") + x
    return net.graph(x)


ZOO = {
    "mlp": lambda: zoo.mlp((784, 256, 256, 10)),
    "residual mlp": lambda: zoo.mlp((784, *[256] * 20, 10), residual=True),
    "lenet5": zoo.lenet5,
    "vgg16": lambda: zoo.vgg(16),
    "resnet18": lambda: zoo.resnet(18),
    "resnet152": lambda: zoo.resnet(152),
    "loops": looping_scopes,
    **{f"cell {seed}": (lambda seed=seed: cell_network(seed, 7 + seed % 5, 1 + seed % 3)) for seed in range(12)},
    **{f"knot {seed}": (lambda seed=seed: cell_network(seed, 8, 2, scoped=False)) for seed in range(6)},
}


@pytest.fixture(params=ZOO, scope="module")
def graph(request: pytest.FixtureRequest) -> Graph:
    return ZOO[request.param]()


# --- geometry ---------------------------------------------------------------------------------------------------


def apart(a: Rect, b: Rect) -> bool:
    return a[2] <= b[0] + 0.01 or b[2] <= a[0] + 0.01 or a[3] <= b[1] + 0.01 or b[3] <= a[1] + 0.01


def within(a: Rect, b: Rect) -> bool:
    return a[0] >= b[0] - 0.01 and a[1] >= b[1] - 0.01 and a[2] <= b[2] + 0.01 and a[3] <= b[3] + 0.01


def points(wire: Wire, count: int = 12) -> list[tuple[float, float]]:
    """Points along a wire: the S is the cubic whose control points are half-way down."""
    found = []
    for (x0, y0), (x1, y1) in zip(wire.points, wire.points[1:], strict=False):
        middle = (y0 + y1) / 2
        for k in range(count + 1):
            t = k / count
            if wire.square or x0 == x1:
                found.append((x0 + (x1 - x0) * t, y0 + (y1 - y0) * t))
            else:
                x = x0 + (x1 - x0) * (3 * t**2 - 2 * t**3)
                y = y0 * (1 - t) ** 3 + 3 * middle * t * (1 - t) + y1 * t**3
                found.append((x, y))
    return found


def rect(box) -> Rect:
    return (box.x, box.y, box.x + box.width, box.y + box.height)


def words_of(drawn: Drawn) -> list[Rect]:
    """Rectangles that text beside wires takes: shapes under units, headers of scopes."""
    found = []
    for unit in drawn.units:
        if unit.shape:
            x, y = unit.x + unit.width / 2 + 5, unit.y + UNIT_HEIGHT
            found.append((x, y + 3, x + text_width(unit.shape, SMALL), y + LABEL_HEIGHT))
    for scope in drawn.scopes:
        x, y = scope.x + 10, scope.y + 6
        found.append((x, y, x + 1.1 * text_width(scope.label, FONT), y + 11))
        right = scope.x + scope.width - 10
        if scope.aside:
            found.append((right - text_width(scope.aside, SMALL), y, right, y + 11))
            right -= text_width(scope.aside, SMALL) + 8
        if scope.times:
            found.append((right - 1.1 * text_width(scope.times, FONT), y, right, y + 11))
    return found


def check_geometry(graph: Graph) -> Drawn:
    drawn = draw(graph)
    page = (0.0, 0.0, drawn.width, drawn.height)
    units, scopes, words = [rect(u) for u in drawn.units], [rect(s) for s in drawn.scopes], words_of(drawn)
    for a, b in combinations(units, 2):
        assert apart(a, b)
    for a, b in combinations(scopes, 2):
        assert apart(a, b) or within(b, a)
    for unit in units:
        assert within(unit, page)
        assert all(apart(unit, s) or within(unit, s) for s in scopes)
    for a, b in combinations(words, 2):
        assert apart(a, b)
    for word in words:
        assert within(word, page)
    chips = [(u.x + (u.width - u.chips_width) / 2, u.y, u.x + (u.width + u.chips_width) / 2, u.y + UNIT_HEIGHT)
             for u in drawn.units]  # fmt: skip
    for wire in drawn.wires:
        for x, y in points(wire):
            assert 0 <= x <= drawn.width
            assert 0 <= y <= drawn.height
            for left, top, right, bottom in (*chips, *words):
                assert not (left + 0.5 < x < right - 0.5 and top + 0.5 < y < bottom - 0.5)
    return drawn


def test_nothing_overlaps_or_crosses_a_box(graph: Graph) -> None:
    check_geometry(graph)


@given(graphs())
@settings(max_examples=60, deadline=None)
def test_nothing_overlaps_in_random_networks(graph: Graph) -> None:
    check_geometry(graph)


def test_every_wire_is_drawn_from_end_to_end() -> None:
    # pieces of wire meet end to end, so walking them from a unit must reach exactly the units that read it
    for seed in range(8):
        graph = cell_network(seed, 6, 2)
        drawn = check_geometry(graph)
        ways: dict[tuple[float, float], set[tuple[float, float]]] = {}
        for wire in drawn.wires:
            start, end = (tuple(round(v, 1) for v in p) for p in (wire.points[0], wire.points[-1]))
            ways.setdefault(start, set()).add(end)  # type: ignore[arg-type]
        tops = {(round(u.x + u.width / 2, 1), round(u.y, 1)): u for u in drawn.units}
        lead = {}
        for u in drawn.units:
            last = u.chips[-1].story.partition(":")[0]
            middle = round(u.x + u.width / 2, 1)
            front = [p for p in ways if p[0] == middle and abs(p[1] - (u.y + UNIT_HEIGHT)) < 0.2]
            reached, seen = set(), set()
            while front:
                point = front.pop()
                if point in seen:
                    continue
                seen.add(point)
                if point in tops:
                    reached.add(tops[point].chips)
                else:
                    near = [q for q in ways if abs(q[0] - point[0]) < 0.25 and abs(q[1] - point[1]) < 0.25]
                    front += [e for q in ([point] if point in ways else near) for e in ways[q]]
            lead[last] = reached
        holder = {c.story.partition(":")[0]: u.chips for u in drawn.units for c in u.chips}
        for node in graph.nodes:
            if node.name in lead:
                wanted = {holder[r] for r in graph.consumers[node.name]}
                if node.name in graph.outputs:
                    wanted.add(next(u.chips for u in drawn.units if u.chips[0].text == "output"))
                assert lead[node.name] == wanted, (seed, node.name)


# --- text -------------------------------------------------------------------------------------------------------


def test_text_is_never_wider_than_assumed() -> None:
    font_manager = pytest.importorskip("matplotlib.font_manager")
    text = pytest.importorskip("matplotlib.textpath")
    # DejaVu Sans, which matplotlib ships, is the widest of the usual fallbacks
    for weight, slack in (("normal", 1.0), ("bold", 1.1)):
        face = font_manager.FontProperties(family="DejaVu Sans", weight=weight)
        path = text.TextToPath()
        samples = """conv 3×3, 64|batch norm|relu|max pool 3×3 /2|64 × 112 × 112|12.3 M params each|linear 1000|
block2–36|×35 in parallel|attention, causal|MMMMWWWW@@|iiiillll|Dropout|abcdefghijklmnopqrstuvwxyz|
ABCDEFGHIJKLMNOPQRSTUVWXYZ|0123456789.,:;!·-_/()[]{}""".replace("\n", "").split("|")
        for words in samples:
            width, _, _ = path.get_text_width_height_descent(words, face, ismath=False)
            real = width / face.get_size_in_points() * FONT
            assert text_width(words, FONT) * slack >= real, (words, weight)


def test_words_for_ops() -> None:
    assert describe(ops.Conv(64, 3, 2, 1)) == "conv 3×3, 64, stride 2"
    assert describe(ops.Conv(64, 3, groups=64, dilation=2)) == "conv 3×3, 64, dilation 2, 64 groups"
    assert describe(ops.Activation("leaky_relu", (("negative_slope", 0.2),))) == "leaky relu 0.2"
    assert describe(ops.Slice(1, 2, 5)) == "slice 2:5 of axis 1"
    assert describe(ops.RMSNorm()) == "RMS norm"
    assert describe(ops.Roll((2,), (1,))) == "roll, shifts 2, axes 1"
    for kind in ops.OPS.values():
        assert callable(describe.dispatch(kind))
    assert [count_words(n) for n in (0, 9_999, 61_706, 999_499, 999_500, 25_557_032, 4_089_184_256)] == [
        "0", "9,999", "61.7 k", "999 k", "1.00 M", "25.6 M", "4.09 G"]  # fmt: skip
    assert span_words(["block2", "block3", "block10"]) == "block2–10"
    assert span_words(["q", "k", "v"]) == "q … v"


def parse(graph: Graph) -> ET.Element:
    return ET.fromstring(graph.draw())


def test_svg_is_valid_accessible_and_deterministic(graph: Graph) -> None:
    root = parse(graph)
    assert root.tag == SVG + "svg"
    ids = {e.get("id") for e in root.iter() if e.get("id")}
    assert set(root.get("aria-labelledby", "").split()) == ids
    assert f"{len(graph)} ops" in (root.findtext(SVG + "desc") or "")
    assert graph.draw() == Graph(graph.nodes, graph.outputs, graph.inputs).draw()
    assert "script" not in graph.draw()
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", graph.draw())


def texts(root: ET.Element) -> list[str]:
    return [t.text or "" for t in root.iter(SVG + "text")]


def test_lenet_shows_every_layer() -> None:
    graph = zoo.lenet5()
    tooltips = [t.text or "" for t in parse(graph).iter(SVG + "title")]
    for node in graph.nodes:
        assert any(t.startswith(node.name + ":") for t in tooltips), node.name
    assert {"6 × 28 × 28", "6 × 14 × 14", "16 × 5 × 5", "400"} <= set(texts(parse(graph)))


def test_resnet152_is_folded_onto_a_page() -> None:
    root = parse(zoo.resnet(152))
    assert {"block2–36", "×35", "block2–8", "×7"} <= set(texts(root))
    assert float(root.get("width", 0)) < 1500
    assert float(root.get("height", 0)) < 1600
    assert any(e.get("class") == "wire skip" for e in root.iter())
    assert "60,192,808 parameters" in " ".join(texts(root))  # the published count


def test_scope_counts_are_of_all_blocks() -> None:
    # torchvision's resnet50: parameters of layer1 … layer4
    shown = {box.label: box.aside for box in draw(zoo.resnet(50)).scopes}
    assert shown["stage1"] == f"{count_words(215_808)} params"
    assert shown["stage4"] == f"{count_words(14_964_736)} params"


def test_too_many_units_close_the_deepest_scopes() -> None:
    net = Builder()
    x = net.input(4)
    for i in range(80):
        with net.scope("block#"):
            for _ in range(3):
                x = x.then(ops.Linear(4 + i % 7))  # widths differ, so nothing folds
    drawn = check_geometry(net.graph(x))
    assert len(drawn.units) == 82
    assert "3 layers, 3 ops" in [c.text for u in drawn.units for c in u.chips]


# --- folding ----------------------------------------------------------------------------------------------------


def test_only_true_repeats_fold() -> None:
    assert [(r.label, len(r.members)) for r in repeats(zoo.resnet(18))] == [("block1–2", 2)]
    net = Builder()
    x = y = net.input(4)
    for _ in range(4):
        with net.scope("block#"):
            x = x.then(ops.Linear(4))
        if x.name == "block2.linear1":
            y = x
    # block2 is read by the join at the end too, so 1–2 and 3–4 may each stand for two, all four may not
    graph = net.graph(x + y)
    assert [r.members for r in repeats(graph)] == [("block1", "block2"), ("block3", "block4")]
    folded = fold_repeats(graph)
    assert [n.name for n in folded.nodes] == ["input", "block1.linear1", "block3.linear1", "add1"]
    assert folded.nodes[2].inputs == ("block1.linear1",)
    assert folded.nodes[3].inputs == ("block3.linear1", "block1.linear1")


def test_parallel_branches_fold_and_say_so() -> None:
    net = Builder()
    x = net.input(4)
    branches = []
    for _ in range(5):
        with net.scope("branch#"):
            branches.append(x.then(ops.Linear(4)))
    graph = net.graph(branches[0].then(ops.Concat(1), *branches[1:]))
    (group,) = repeats(graph)
    assert group.parallel
    assert "branch1–5 ×5 in parallel" in texts(parse(graph))
    assert "in parallel" in graph.outline()


def test_an_output_inside_a_chain_is_not_folded_away() -> None:
    net = Builder()
    x = net.input(4)
    ends = []
    for _ in range(6):
        with net.scope("block#"):
            x = x.then(ops.Linear(4))
        ends.append(x)
    graph = net.graph(ends[2], ends[5])
    assert [r.members for r in repeats(graph)] == [("block1", "block2", "block3"), ("block4", "block5", "block6")]
    assert {"output 1", "output 2"} <= set(texts(parse(graph)))


# --- outline ----------------------------------------------------------------------------------------------------


def test_outline_of_lenet() -> None:
    lines = zoo.lenet5().outline().splitlines()
    rows = [line.split() for line in lines]
    assert ["conv1", "conv", "5×5,", "16", "16", "×", "10", "×", "10", "2,416"] in rows
    assert lines[-1] == "61,706 parameters · 417 k multiply-adds per example · depth 5 weighted layers"


def test_outline_folds_marks_skips_and_adds_up(graph: Graph) -> None:
    text = graph.outline()
    head, *body = text.splitlines()[:-2]
    end = head.index("parameters") + len("parameters")
    cells = [line[end - 12 : end].strip().replace(",", "") for line in body]
    counts = [int(cell) for cell in cells if cell]
    assert sum(counts) == graph.cost().parameters
    assert f"{graph.cost().parameters:,} parameters" in text


def test_outline_names_skips() -> None:
    text = zoo.resnet(18).outline()
    assert re.search(r"block2 +the same as block1 +73,984\n", text)
    assert re.search(r"add1 +add +64 × 56 × 56 +← norm2 \+ stem.pool1 \(skip\)", text)
    assert "← norm2 + shortcut.norm1" in text  # a projection is no skip past its own block's input
