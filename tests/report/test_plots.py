import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from depthscale.errors import DepthscaleError
from depthscale.report import plots

SVG = "{http://www.w3.org/2000/svg}"


def samples(**more) -> dict[str, str]:
    line = plots.Line([(1, 0.1), (2, math.nan), (3, 1e-7)], "first <b>", "strong")
    return {
        "curves": plots.curves([line, plots.Line([(1, 1), (2, 2)], weight="faint")], x="x $a", y="y_b$", **more),
        "log": plots.curves([line, plots.Line([(1, -1.0), (2, 1e5)])], log_y=True, log_x=True, **more),
        "heat": plots.heat_map([[0.0, 1.0], [2.0, 3.0]], x="a", y="b", unit="c", **more),
        "confusion": plots.confusion([[3, 1], [0, 0]], ["<script>", "$1 & $2^{"], **more),
        "large": plots.confusion([[i * j for j in range(60)] for i in range(60)], [f"c{i}" for i in range(60)], **more),
        "scatter": plots.scatter([(0.0, 1.0), (math.inf, 2.0), (3.0, 3.0)], x="t", y="p", line="diagonal", **more),
        "empty": plots.scatter([], line="zero", **more),
    }


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    return samples()


def texts(svg: str) -> list[str]:
    return ["".join(e.itertext()) for e in ET.fromstring(svg).iter(SVG + "text")]


def test_valid_xml_with_a_description_and_text(drawn: dict[str, str]) -> None:
    for svg in drawn.values():
        root = ET.fromstring(svg)
        assert root.get("role") == "img"
        title = root.find(SVG + "title")
        assert title is not None
        assert title.get("id") == root.get("aria-labelledby")
        assert float(root.get("width", 0)) > 200
    assert {"x $a", "y_b$", "first <b>"} <= set(texts(drawn["curves"]))  # dollars are no mathematics
    assert {"<script>", "$1 & $2^{", "3", "1"} <= set(texts(drawn["confusion"]))
    assert "10⁻⁷" in texts(drawn["log"])
    assert not any("mathdefault" in t for svg in drawn.values() for t in texts(svg))


def test_ids_of_two_plots_never_meet(drawn: dict[str, str]) -> None:
    seen: set[str] = set()
    for svg in drawn.values():
        ids = re.findall(r'\bid="([^"]+)"', svg)
        assert len(ids) == len(set(ids))
        assert not seen & set(ids)
        seen |= set(ids)
        for used in re.findall(r'(?:url\(#|href="#)([^)"]+)', svg):
            assert used in ids


def test_deterministic_and_nothing_global_changes(drawn: dict[str, str]) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    assert samples() == drawn
    assert dict(mpl.rcParams) == before


def test_colours_follow_the_page(drawn: dict[str, str]) -> None:
    assert f"var(--accent, {plots.ACCENT})" in drawn["curves"]
    for svg in drawn.values():
        assert f": {plots.INK}" not in svg


def test_values_stand_where_they_should() -> None:
    # two points at known places of the axis: the drawn path is linear in the data
    svg = plots.curves([plots.Line([(0, 0), (1, 0.5), (2, 2)], "a", "strong")])
    paths = [p.get("d", "") for p in ET.fromstring(svg).iter(SVG + "path") if "2.2" in p.get("style", "")]
    found = [re.findall(r"([\d.]+) ([\d.]+)", d) for d in paths if d.count("L") == 2]
    points = max(found, key=lambda p: float(p[-1][0]) - float(p[0][0]))  # the other is the legend's
    (x0, y0), (x1, y1), (x2, y2) = [(float(a), float(b)) for a, b in points]
    assert (x1 - x0) == pytest.approx(x2 - x1, abs=1e-3)
    assert (y0 - y1) == pytest.approx((y0 - y2) / 4, abs=1e-3)


def test_png(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    plots.curves([plots.Line([(0, 0), (1, 1)])], png=path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(DepthscaleError, match="cannot write the picture"):
        plots.curves([plots.Line([(0, 0), (1, 1)])], png=tmp_path / "none" / "a.png")


def test_many_points_are_thinned() -> None:
    svg = plots.scatter([(i / 10, i / 10) for i in range(20_000)])
    assert len(svg) < 300_000
    assert svg.count("<use ") < plots.MOST_POINTS + 50


def test_long_numbers_do_not_run_into_one_another() -> None:
    words = texts(plots.scatter([(20_000.0, 0.0), (1.25e6, 1.0)], x="parameters"))
    assert words[: words.index("parameters")] == ["0", "300k", "600k", "900k", "1.2M"]
    assert "9000" in texts(plots.scatter([(1_000.0, 0.0), (9_000.0, 1.0)]))  # short ones are said in full


def test_columns_of_strips_are_counted_in_whole_numbers() -> None:
    words = texts(plots.strips([[0.0, 0.5, 1.0, 0.2]], ["a"], x="column"))
    assert words[: words.index("column")] == ["0", "1", "2", "3"]


def test_letters_that_matplotlib_lacks_warn_nobody() -> None:
    assert "数字" in texts(plots.confusion([[1, 0], [0, 1]], ["数字", "a\nb\x00"]))


def test_bad_words_are_refused() -> None:
    with pytest.raises(DepthscaleError, match="strong, usual or faint, got 'bold'"):
        plots.Line([], weight="bold")
    with pytest.raises(DepthscaleError, match="diagonal, zero or ''"):
        plots.scatter([], line="cross")


def test_powers() -> None:
    assert [plots.power(v) for v in (1e-7, 0.01, 1.0, 1000.0, 1e4)] == ["10⁻⁷", "0.01", "1", "1000", "10⁴"]
