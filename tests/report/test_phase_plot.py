import csv
import io
import json
import xml.etree.ElementTree as ET

import matplotlib.image
import numpy as np
import pytest

from depthscale.errors import DepthscaleError, TheoryError
from depthscale.report.phase_plot import draw_phase, phase_figure
from depthscale.report.phase_summary import phase_summary
from depthscale.theory import PHASES, critical_point, phase_point


@pytest.fixture(scope="module")
def tanh():
    return phase_summary("tanh", cells=40)


def test_the_classic_diagram_of_tanh(tanh):
    d = tanh.diagram
    assert (d.sw2[0], d.sw2[-1], d.sb2[0], d.sb2[-1]) == (0.5, 3.0, 0.0, 0.25)
    assert tanh.line[0] == pytest.approx((1.0, 0.0), abs=1e-12)
    sw2, sb2 = np.array(tanh.line).T
    at = float(np.interp(0.05, sb2, sw2))
    assert at == pytest.approx(1.76095, abs=1e-3)
    # the line parts the phases
    for i in range(1, 40):
        edge = float(np.interp(d.sb2[i], sb2, sw2))
        assert np.array_equal(d.phase[i] == 2, d.sw2 > edge)
    assert tanh.unstable == ()


def test_words_say_what_to_use(tanh):
    words = tanh.words()
    assert "critical at sw2 = 1, sb2 = 0" in words
    assert "Xavier with torch's gain" in words
    assert "chi1 = 1.20983" in words
    assert "empirical rule" in words
    gelu = phase_summary("gelu", cells=5).words()
    assert f"{np.sqrt(float(critical_point('gelu').sb2)):.6g}" in gelu


def test_table_and_json_hold_every_cell(tanh):
    rows = list(csv.DictReader(io.StringIO(tanh.to_csv())))
    assert len(rows) == 1600
    assert {r["phase"] for r in rows} <= set(PHASES)
    one = rows[1234]
    truth = phase_point("tanh", float(one["sw2"]), float(one["sb2"]))
    assert float(one["q"]) == pytest.approx(float(truth.q), rel=1e-10)
    assert one["phase"] == truth.phase
    plain = json.loads(json.dumps(tanh.to_dict(), allow_nan=False))
    assert np.shape(plain["xi_c"]) == (40, 40)
    assert plain["critical_point"]["sw2"]["value"] == pytest.approx(1)


def test_the_picture_is_drawn_as_png_and_svg(tanh, tmp_path):
    files = draw_phase(tanh.picture(), [tmp_path / "a" / "phase.png", tmp_path / "phase.svg"])
    pixels = matplotlib.image.imread(files[0])
    assert min(pixels.shape[:2]) > 500
    assert pixels[..., :3].std() > 0.1
    text = files[1].read_text()
    ET.fromstring(text)
    for words in ("ordered", "chaotic", "Kaiming", "PyTorch default", "critical line"):
        assert f">{words}" in text
    again = draw_phase(tanh.picture(), [tmp_path / "again.svg"])[0].read_text()
    assert again == text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "again.svg", "phase.svg"]


@pytest.mark.parametrize("name", ["relu", "sign", "gelu", "exp", "sigmoid", "identity"])
def test_every_kind_of_diagram_can_be_drawn(name, tmp_path):
    summary = phase_summary(name, cells=12)
    draw_phase(summary.picture(), [tmp_path / "x.png"])
    assert summary.words()
    json.dumps(summary.to_dict(), allow_nan=False)


def test_what_has_no_critical_point_says_why():
    assert "jumps" in phase_summary("sign", cells=3).why_not


def test_bad_input(tanh, tmp_path):
    with pytest.raises(DepthscaleError, match=r"\.png or \.svg"):
        draw_phase(tanh.picture(), [tmp_path / "x.gif"])
    with pytest.raises(TheoryError, match="range of sw2"):
        phase_summary("tanh", sw2=(2.0, 1.0))
    with pytest.raises(TheoryError, match="at least 2"):
        phase_summary("tanh", cells=1)
    from dataclasses import replace

    with pytest.raises(DepthscaleError, match="shape"):
        phase_figure(replace(tanh.picture(), depth=np.ones((2, 2))))
