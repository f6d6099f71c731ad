"""Packages that are not run until they are asked: on packages made for the test."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from depthscale.capture.lazily import complete, lazily, one_of

FILES = {
    "outer/__init__.py": (
        "RUN = True\nfrom outer.constants import CONSTANT\nfrom outer.inner import thing\n"
        "from outer.other import late as renamed\n"
    ),
    "outer/constants.py": "CONSTANT = 7\n",
    "outer/other.py": "late = 'late'\n",
    "outer/inner/__init__.py": (
        "import outer\nPARENT_RUN_FIRST = 'RUN' in vars(outer)\nthing = 'thing'\n__all__ = ['thing']\n"
    ),
    "outer/inner/leaf.py": (
        "from outer import CONSTANT, other\nfrom outer.inner import sibling\nvalue = CONSTANT + sibling.value\n"
    ),
    "outer/inner/sibling.py": "value = 1\n",
}
NAMES = {"outer": ("constants",), "outer.inner": ()}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    _write(tmp_path, FILES)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    _forget("outer")


def _write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def _forget(*packages: str) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] in packages]:
        del sys.modules[name]


def test_a_submodule_is_imported_without_the_packages_around_it(package: Path) -> None:
    with lazily(NAMES):
        leaf = import_module("outer.inner.leaf")
    assert leaf.value == 8
    assert "RUN" not in vars(sys.modules["outer"])
    assert "thing" not in vars(sys.modules["outer.inner"])


def test_what_is_missing_runs_the_package_in_place(package: Path) -> None:
    with lazily(NAMES):
        leaf = import_module("outer.inner.leaf")
    outer, inner = sys.modules["outer"], sys.modules["outer.inner"]
    assert outer.renamed == "late"
    assert outer.RUN is True
    assert (sys.modules["outer"], sys.modules["outer.inner"], sys.modules["outer.inner.leaf"]) == (outer, inner, leaf)
    with pytest.raises(AttributeError, match="nothing"):
        _ = outer.nothing


def test_a_package_runs_after_the_one_around_it(package: Path) -> None:
    with lazily(NAMES):
        import_module("outer.inner.leaf")
    complete(sys.modules["outer.inner"])
    assert sys.modules["outer.inner"].PARENT_RUN_FIRST is True


@pytest.mark.parametrize("look", ["from outer.inner import *", "import outer.inner as m; dir(m)"])
def test_looking_at_all_of_it_runs_it(package: Path, look: str) -> None:
    with lazily(NAMES):
        import_module("outer.inner.leaf")
    exec(look, {})
    assert vars(sys.modules["outer.inner"])["thing"] == "thing"


def test_other_packages_and_those_there_already_are_run(package: Path) -> None:
    outer = import_module("outer")
    with lazily(NAMES):
        assert import_module("outer") is outer
        import_module("outer.inner.leaf")
    assert "thing" in vars(sys.modules["outer.inner"])
    assert not any(type(f).__name__ == "_Finder" for f in sys.meta_path)


def test_a_package_that_fails_while_it_runs_can_be_asked_again(package: Path) -> None:
    with lazily(NAMES):
        outer = import_module("outer")
    other = package / "outer" / "other.py"
    other.write_text("raise RuntimeError('not now')\n")
    with pytest.raises(RuntimeError, match="not now"):
        _ = outer.renamed
    other.write_text("late = 'later than ever'\n")  # of another length: its bytecode is not taken for this one's
    assert outer.renamed == "later than ever"


TIMM = {
    "timm/__init__.py": "from timm.models import create_model, is_model, slow\n",
    "timm/version.py": "__version__ = '0'\n",
    "timm/data/__init__.py": "raise RuntimeError('all of the data')\n",
    "timm/data/constants.py": "MEAN = 0.5\n",
    "timm/models/__init__.py": (
        "from ._factory import create_model\nfrom ._registry import is_model\nfrom .slow import *\nfrom .net import *\n"
    ),
    "timm/models/_registry.py": "KNOWN = {}\ndef is_model(name): return name.partition('.')[0] in KNOWN\n",
    "timm/models/_factory.py": (
        "from ._registry import KNOWN\ndef create_model(name, pretrained=False): return KNOWN[name]()\n"
    ),
    "timm/models/again.py": (
        "from timm.data import MEAN\nfrom ._registry import KNOWN\n"
        "def again():\n    return 2 * MEAN\nKNOWN['again'] = again\n"
    ),
    "timm/models/slow.py": "slow = True\ndef twice(): pass\n",
    "timm/models/net.py": (
        "from timm.data import MEAN\nfrom ._registry import KNOWN\n"
        "def net():\n    return MEAN\ndef twice(): pass\nKNOWN['net'] = net\n"
    ),
}


@pytest.fixture
def timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if "timm" in sys.modules:
        pytest.skip("the real one has been imported")
    _write(tmp_path, TIMM)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    _forget("timm")


def test_one_model_costs_one_module(timm: None) -> None:
    make = one_of("timm", "net")
    assert make is not None
    assert make("net", pretrained=False) == 0.5
    assert "timm.models.slow" not in sys.modules
    assert one_of("timm", "net") is not None  # and again


def test_a_second_model_costs_one_module_too(timm: None) -> None:
    assert one_of("timm", "net") is not None
    make = one_of("timm", "again")  # it asks the data again, which would fail if all of them ran
    assert make is not None
    assert make("again", pretrained=False) == 1.0
    assert "timm.models.slow" not in sys.modules


@pytest.mark.parametrize("name", ["nett", "twice", "slow", "not a name", "net2.tag"])
def test_names_that_are_not_found_so_easily_are_left_to_the_library(timm: None, name: str) -> None:
    assert one_of("timm", name) is None


def test_all_of_the_library_is_there_for_who_asks(timm: None) -> None:
    assert one_of("timm", "net") is not None
    assert import_module("timm").slow is True
    assert one_of("timm", "net") is None  # all of it has been imported: nothing to save


def test_a_library_that_is_otherwise_is_left_alone(timm: None, tmp_path: Path) -> None:
    (tmp_path / "timm" / "models" / "_registry.py").write_text("KNOWN = {}\n")
    assert one_of("timm", "net") is None


def test_a_library_that_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert one_of("timm", "net") is None
