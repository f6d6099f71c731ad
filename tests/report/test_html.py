import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from depthscale.errors import DepthscaleError
from depthscale.report import Confusion, ReportData, TrialRow, render, write_report
from tests.report.fakes import digits, prices, trials

VOID = {"meta", "br", "img", "link", "input", "hr"}
EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Checks that tags nest, and keeps scripts, ids, links and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.refs: list[str] = []
        self.words: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for key, value in attrs:
            if key == "id":
                self.ids.append(value or "")
            if key in ("src", "href", "xlink:href", "action", "data"):
                self.refs.append(value or "")
            if key.startswith("on"):
                self.handlers.append(key)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def page() -> str:
    return render(digits())


@pytest.mark.parametrize("make", [digits, prices])
def test_one_file_that_needs_nothing_else(make) -> None:
    text = render(make())
    parsed = Page(text)
    assert len(parsed.ids) == len(set(parsed.ids))
    for ref in parsed.refs:
        assert ref.startswith(("#", "data:image/png"))
        if ref.startswith("#"):
            assert ref[1:] in parsed.ids
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert len(text) < 3_000_000
    assert parsed.handlers == []


def test_says_everything(page: str) -> None:
    text = re.sub(r"\s+", " ", " ".join(Page(page).words))
    for part in [
        "98.63 %", "95 % interval", "61,706", "Theory dropped 6", "histogram gradient boosting", "trial 7",
        "Signals and gradients keep their size", "depth scale is infinite", "8 × 8 images, one channel.",
        "model.safetensors", "depthscale design digits --budget 60s", "2 × AMD EPYC 7B13", "torch 2.13.0", "Seed",
        "not among the best third", "1,257 for training",
    ]:  # fmt: skip
        assert part in text, part
    assert page.count("<svg") == 4  # curves, confusion, network, theory
    for trial in digits().trials:
        assert trial.words in text


def test_without_script_the_table_is_in_order(page: str) -> None:
    head, _, script = page.partition("<script>")
    rows = re.findall(r'<td class="n" data-v="(\d+)">\d+</td>\s*<td class="words">', head)
    data = digits()
    scores = {t.number: t.score for t in data.trials}
    order = [scores[int(r)] for r in rows]
    assert int(rows[0]) == data.winner
    trained = [s for s in order[1:] if s is not None]
    assert trained == sorted(trained, reverse=True)
    assert order[1 : 1 + len(trained)] == trained
    assert len(rows) == len(data.trials)
    assert "addEventListener" in script


def test_everything_from_outside_is_escaped() -> None:
    data = digits((EVIL, '"><img src=x onerror=alert(1)>', *"23456789"))
    won = data.won
    data = replace(
        data,
        title=EVIL,
        data=replace(data.data, name=EVIL, target=EVIL, notes=(EVIL,)),
        trials=(*(t for t in data.trials if t != won), replace(won, words=EVIL, why=EVIL, budget=EVIL)),
        result=replace(data.result, name=EVIL, note=EVIL),
        environment=replace(data.environment, command=EVIL, hardware=EVIL, versions={EVIL: EVIL}, finished=EVIL),
        theory=replace(data.theory, verdict=EVIL, notes=(EVIL,)),  # type: ignore[type-var]
        score_name=EVIL,
        curve_x=EVIL,
        curve_y=EVIL,
        usage_python=EVIL,
        usage_command=EVIL,
    )
    text = render(data)
    assert EVIL not in text
    parsed = Page(text)
    assert parsed.tags.count("script") == 1  # our own
    assert parsed.handlers == []
    assert "img" not in parsed.tags
    assert sum(EVIL in words for words in parsed.words) >= 15


def test_hundred_classes_and_five_hundred_trials() -> None:
    classes = tuple(f"class {i}" for i in range(100))
    data = replace(digits(classes), trials=trials(500), outcome=Confusion(tuple(
        tuple(90 if i == j else (i * j) % 3 for j in range(100)) for i in range(100))))  # fmt: skip
    text = render(data)
    Page(text)
    assert len(text) < 3_000_000
    assert "All 500 trials" in text
    assert "worst are left out" in text
    assert "data:image/png" in text  # the matrix as a heat map


def test_little_is_enough() -> None:
    data = digits()
    bare = ReportData(
        title="t",
        data=replace(data.data, notes=(), classes=("a", "b")),
        graph=data.graph,
        winner=0,
        result=data.result,
        trials=(TrialRow(0, "one network", "complete"),),
        environment=replace(data.environment, versions={}, command="", hardware="", finished=""),
    )
    text = render(bare)
    Page(text)
    assert 'href="#theory"' not in text
    assert 'href="#errors"' not in text


def test_colours_are_readable(page: str) -> None:
    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    roots = re.findall(r":root \{([^}]*)\}", page)
    for root in roots[:2]:  # light and dark
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", root))
        for ink in ("ink", "soft", "accent", "second"):
            for paper in ("paper", "card", "tint", "code"):
                a, b = sorted((luminance(colours[ink]), luminance(colours[paper])), reverse=True)
                assert (a + 0.05) / (b + 0.05) >= 4.5, (ink, paper)  # WCAG 2 AA


def test_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = write_report(tmp_path / "deep" / "report.html", digits())
    assert path.read_text(encoding="utf-8") == render(digits())
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    blocked = tmp_path / "file"
    blocked.write_text("x")
    with pytest.raises(DepthscaleError, match="cannot write the report"):
        write_report(blocked / "report.html", digits())
